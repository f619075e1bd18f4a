package boot_test

import (
	"crypto/tls"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"roost/cmd/internal/boot"
	"roost/cmd/internal/tlstest"
)

func TestMutualTLS(t *testing.T) {
	t.Parallel()
	ours, theirs := tlstest.NewAuthority(t), tlstest.NewAuthority(t)
	serverCert, serverKey := ours.Issue(t, "server")
	clientCert, clientKey := ours.Issue(t, "client")
	foreignCert, foreignKey := theirs.Issue(t, "client")
	config, err := boot.TLSFiles{Cert: serverCert, Key: serverKey, CA: ours.CA()}.Server()
	if err != nil {
		t.Fatal(err)
	}
	b := startServer(t, boot.Service{Handler: http.NotFoundHandler(), TLS: config})

	cases := map[string]struct {
		files boot.TLSFiles
		tls11 bool
		ok    bool
	}{
		"both sides known":         {boot.TLSFiles{Cert: clientCert, Key: clientKey, CA: ours.CA()}, false, true},
		"no client certificate":    {boot.TLSFiles{CA: ours.CA()}, false, false},
		"client of another CA":     {boot.TLSFiles{Cert: foreignCert, Key: foreignKey, CA: ours.CA()}, false, false},
		"server of another CA":     {boot.TLSFiles{Cert: clientCert, Key: clientKey, CA: theirs.CA()}, false, false},
		"a version that is broken": {boot.TLSFiles{Cert: clientCert, Key: clientKey, CA: ours.CA()}, true, false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config, err := c.files.Client()
			if err != nil {
				t.Fatal(err)
			}
			if c.tls11 {
				config.MinVersion, config.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
			}
			err = get(t, &http.Client{Transport: &http.Transport{TLSClientConfig: config}}, "https://"+b.addr)
			if (err == nil) != c.ok {
				t.Errorf("error %v, want success: %v", err, c.ok)
			}
		})
	}
}

func get(t *testing.T, client *http.Client, url string) error {
	t.Helper()
	defer client.CloseIdleConnections()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	return response.Body.Close()
}

func TestTLSFilesThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	a := tlstest.NewAuthority(t)
	cert, key := a.Issue(t, "one")
	_, otherKey := a.Issue(t, "two")
	missing := filepath.Join(t.TempDir(), "none.pem")
	pem, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, files := range map[string]boot.TLSFiles{
		"missing":            {Cert: missing, Key: missing},
		"another key":        {Cert: cert, Key: otherKey},
		"CA is a key":        {Cert: cert, Key: key, CA: key},
		"key is no path":     {Cert: cert, Key: string(pem)},
		"CA is no path":      {Cert: cert, Key: key, CA: string(pem)},
		"CA that is missing": {Cert: cert, Key: key, CA: missing},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, use := range []func() (*tls.Config, error){files.Server, files.Client} {
				_, err := use()
				if err == nil {
					t.Fatal("accepted")
				}
				if strings.Contains(err.Error(), "PRIVATE KEY") {
					t.Errorf("the error shows a key: %v", err)
				}
			}
		})
	}
}
