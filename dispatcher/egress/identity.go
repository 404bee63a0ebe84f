package egress

import (
	"container/list"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"slices"
	"sync"
)

// An Identity is who this side is to one stranger over TLS, and whom it trusts there. Connections are kept apart by it: two requests share a
// connection only if all four members are the same. No TLS session is resumed, so none crosses from one identity to another. It says nothing
// to a stranger that is called over http.
type Identity struct {
	Certificate string // PEM: the client certificate, and then those between it and its authority. Empty: none but those of [Config.TLS].
	Key         string // PEM of the certificate's private key. It is secret.
	CA          string // PEM: the authorities that are trusted instead of those of Config.TLS. Empty: those.
	ServerName  string // the name that is asked for, and that the other side's certificate must hold. Empty: the URL's host.
}

// String leaves all of it out.
func (Identity) String() string { return "TLS identity ***" }

// key tells identities apart. That of nil is empty.
func (id *Identity) key() string {
	if id == nil {
		return ""
	}
	sum := sha256.New()
	for _, member := range [...]string{id.Certificate, id.Key, id.CA, id.ServerName} {
		_, _ = sum.Write(binary.BigEndian.AppendUint64(nil, uint64(len(member))))
		_, _ = sum.Write([]byte(member))
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// An identity is an [Identity] as handshakes need it. It is never written to.
type identity struct {
	key    string
	cert   *tls.Certificate // nil: none
	roots  *x509.CertPool   // nil: those of Config.TLS
	server string           // the name to ask for; empty: the URL's host
}

// name is the identity's key. That of nil is empty.
func (id *identity) name() string {
	if id == nil {
		return ""
	}
	return id.key
}

// read reads an identity. The error repeats nothing of it.
func (id *Identity) read(key string) (*identity, error) {
	read := &identity{key: key, server: id.ServerName}
	if id.Certificate != "" || id.Key != "" {
		pair, err := tls.X509KeyPair([]byte(id.Certificate), []byte(id.Key))
		if err != nil {
			return nil, errors.New("the client certificate and its key cannot be read")
		}
		read.cert = &pair
	}
	if id.CA != "" {
		read.roots = x509.NewCertPool()
		if !read.roots.AppendCertsFromPEM([]byte(id.CA)) {
			return nil, errors.New("the authority's certificates cannot be read")
		}
	}
	return read, nil
}

// maxIdentities bounds how many identities are kept as handshakes need them, at some 10 KiB each. One that is forgotten is read again.
const maxIdentities = 1000

// identities are those used last.
type identities struct {
	mu     sync.Mutex
	known  map[string]*list.Element // of *identity, by key
	recent *list.List               // the last used first
}

func newIdentities() *identities {
	return &identities{known: make(map[string]*list.Element), recent: list.New()}
}

// get returns id as handshakes need it. That of nil is nil.
func (s *identities) get(id *Identity) (*identity, error) {
	if id == nil {
		return nil, nil //nolint:nilnil // the usual one
	}
	key := id.key()
	s.mu.Lock()
	place, known := s.known[key]
	if known {
		s.recent.MoveToFront(place)
	}
	s.mu.Unlock()
	if known {
		return place.Value.(*identity), nil
	}
	read, err := id.read(key)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if place, known := s.known[key]; known {
		return place.Value.(*identity), nil
	}
	s.known[key] = s.recent.PushFront(read)
	if s.recent.Len() > maxIdentities {
		delete(s.known, s.recent.Remove(s.recent.Back()).(*identity).key)
	}
	return read, nil
}

// config returns base for one handshake with host. asked hears that the other side asked for a client certificate, and whether it gets one.
//
// A certificate that was given for this stranger is sent whatever authorities it names: many servers name but some of those that they take, and
// what they say of a certificate is of more use than silence.
func (id *identity) config(base *tls.Config, host string, asked func(given bool)) *tls.Config {
	config := base.Clone()
	config.ServerName, config.ClientSessionCache = host, nil
	own := (*tls.Certificate)(nil)
	if id != nil {
		own = id.cert
		if id.server != "" {
			config.ServerName = id.server
		}
		if id.roots != nil {
			config.RootCAs = id.roots
		}
	}
	config.GetClientCertificate = func(request *tls.CertificateRequestInfo) (*tls.Certificate, error) {
		chosen, err := chooseCertificate(base, own, request)
		asked(err == nil && len(chosen.Certificate) > 0)
		return chosen, err
	}
	return config
}

// chooseCertificate returns own if it suits the other side's algorithms, else the one of base's that suits it in all, else one that is empty.
func chooseCertificate(base *tls.Config, own *tls.Certificate, request *tls.CertificateRequestInfo) (*tls.Certificate, error) {
	if own != nil {
		anyAuthority := *request
		anyAuthority.AcceptableCAs = nil
		if anyAuthority.SupportsCertificate(own) == nil {
			return own, nil
		}
		return new(tls.Certificate), nil
	}
	if base.GetClientCertificate != nil {
		return base.GetClientCertificate(request)
	}
	i := slices.IndexFunc(base.Certificates, func(c tls.Certificate) bool { return request.SupportsCertificate(&c) == nil })
	if i < 0 {
		return new(tls.Certificate), nil
	}
	return &base.Certificates[i], nil
}
