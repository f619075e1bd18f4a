package boot

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
)

// TLSFiles are the PEM files of one side of a connection. All empty: no TLS.
// They are read when the process starts; new ones take a restart.
type TLSFiles struct {
	Cert, Key string // what this side shows
	CA        string // whom it believes
}

// None reports that no file is named.
func (f TLSFiles) None() bool { return f == TLSFiles{} }

// Server is the configuration of a server: with CA, clients must show a
// certificate that it signed.
func (f TLSFiles) Server() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if err := f.loadPair(config); err != nil {
		return nil, err
	}
	pool, err := f.loadCA()
	if err != nil {
		return nil, err
	}
	if pool != nil {
		config.ClientCAs, config.ClientAuth = pool, tls.RequireAndVerifyClientCert
	}
	return config, nil
}

// Client is the configuration of a client. Without CA it believes the
// system's authorities.
func (f TLSFiles) Client() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.Cert != "" || f.Key != "" {
		if err := f.loadPair(config); err != nil {
			return nil, err
		}
	}
	var err error
	config.RootCAs, err = f.loadCA()
	return config, err
}

func (f TLSFiles) loadPair(config *tls.Config) error {
	if isPEM(f.Cert) || isPEM(f.Key) {
		return errors.New("must be the path of a PEM file, not its content")
	}
	pair, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		return fmt.Errorf("load certificate and key: %w", err)
	}
	config.Certificates = []tls.Certificate{pair}
	return nil
}

func (f TLSFiles) loadCA() (*x509.CertPool, error) {
	if f.CA == "" {
		return nil, nil //nolint:nilnil // no pool is what crypto/tls wants for "not set"
	}
	if isPEM(f.CA) {
		return nil, errors.New("must be the path of a PEM file, not its content")
	}
	pem, err := os.ReadFile(f.CA)
	if err != nil {
		return nil, fmt.Errorf("load authority: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("load authority: %s holds no certificate", f.CA)
	}
	return pool, nil
}
