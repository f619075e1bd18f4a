package boot_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"roost/cmd/internal/boot"
)

// authority signs certificates of a test.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir()}
	a.cert, a.key = a.issue(t, "ca", true)
	return a
}

func (a *authority) path(name string) string { return filepath.Join(a.dir, name) }

// issue writes NAME.crt and NAME.key, signed by the authority or by itself.
func (a *authority) issue(t *testing.T, name string, isCA bool) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: isCA, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	parent, signer := a.cert, a.key
	if isCA {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, a.path(name+".crt"), "CERTIFICATE", der)
	writePEM(t, a.path(name+".key"), "PRIVATE KEY", keyDER)
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func writePEM(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestMutualTLS(t *testing.T) {
	t.Parallel()
	ours, theirs := newAuthority(t), newAuthority(t)
	ours.issue(t, "server", false)
	ours.issue(t, "client", false)
	theirs.issue(t, "client", false)
	config, err := boot.TLSFiles{Cert: ours.path("server.crt"), Key: ours.path("server.key"), CA: ours.path("ca.crt")}.Server()
	if err != nil {
		t.Fatal(err)
	}
	b := startServer(t, boot.Service{Handler: http.NotFoundHandler(), TLS: config})

	cases := map[string]struct {
		files boot.TLSFiles
		tls11 bool
		ok    bool
	}{
		"both sides known":         {boot.TLSFiles{Cert: ours.path("client.crt"), Key: ours.path("client.key"), CA: ours.path("ca.crt")}, false, true},
		"no client certificate":    {boot.TLSFiles{CA: ours.path("ca.crt")}, false, false},
		"client of another CA":     {boot.TLSFiles{Cert: theirs.path("client.crt"), Key: theirs.path("client.key"), CA: ours.path("ca.crt")}, false, false},
		"server of another CA":     {boot.TLSFiles{Cert: ours.path("client.crt"), Key: ours.path("client.key"), CA: theirs.path("ca.crt")}, false, false},
		"a version that is broken": {boot.TLSFiles{Cert: ours.path("client.crt"), Key: ours.path("client.key"), CA: ours.path("ca.crt")}, true, false},
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
	a := newAuthority(t)
	a.issue(t, "one", false)
	a.issue(t, "two", false)
	key, err := os.ReadFile(a.path("one.key"))
	if err != nil {
		t.Fatal(err)
	}
	for name, files := range map[string]boot.TLSFiles{
		"missing":            {Cert: a.path("none.crt"), Key: a.path("none.key")},
		"another key":        {Cert: a.path("one.crt"), Key: a.path("two.key")},
		"CA is a key":        {Cert: a.path("one.crt"), Key: a.path("one.key"), CA: a.path("one.key")},
		"key is no path":     {Cert: a.path("one.crt"), Key: string(key)},
		"CA is no path":      {Cert: a.path("one.crt"), Key: a.path("one.key"), CA: string(key)},
		"CA that is missing": {Cert: a.path("one.crt"), Key: a.path("one.key"), CA: a.path("none.crt")},
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
