package main

import (
	"crypto/tls"
	"crypto/x509"
	"os"
)

// clientTLS is how a command connects to an https server: the authority it trusts besides those of this machine, and the certificate it shows.
// Nil is as usual.
func clientTLS(ca, cert, key string) (*tls.Config, error) {
	if ca == "" && cert == "" && key == "" {
		return nil, nil //nolint:nilnil // as usual
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		text, err := os.ReadFile(ca) //nolint:gosec // the caller's own choice of a file
		if err != nil {
			return nil, usagef("--server-ca: %v", err)
		}
		if config.RootCAs, err = x509.SystemCertPool(); err != nil {
			config.RootCAs = x509.NewCertPool()
		}
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, usagef("--server-ca %s: there is no certificate in it; it takes PEM", ca)
		}
	}
	if (cert == "") != (key == "") {
		return nil, usagef("--client-cert and --client-key go together")
	}
	if cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, usagef("--client-cert %s and --client-key %s: %v", cert, key, err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}
