package console

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"slices"
	"strings"
)

//go:embed static
var embedded embed.FS

// A file is one that browsers keep for good: its name changes with what is in it.
type file struct {
	name, mediaType string
	bytes           []byte
	policy          string // its own Content-Security-Policy; empty: the site's
}

// newFile is a file with a hash in its name, which is to end in ext.
func newFile(stem, ext, mediaType string, b []byte) *file {
	sum := sha256.Sum256(b)
	return &file{name: stem + "." + hex.EncodeToString(sum[:8]) + ext, mediaType: mediaType, bytes: b}
}

// files are by the name that templates know them by, such as style.css, and by the name that browsers do, such as style.1f3c9a….css.
var files = func() map[string]*file {
	all := map[string]*file{}
	entries, err := fs.ReadDir(embedded, "static")
	if err != nil {
		panic(err) // a directory of this program
	}
	for _, e := range entries {
		b, err := fs.ReadFile(embedded, "static/"+e.Name())
		if err != nil {
			panic(err)
		}
		ext := path.Ext(e.Name())
		f := newFile(strings.TrimSuffix(e.Name(), ext), ext, mime.TypeByExtension(ext), b)
		all[e.Name()], all[f.name] = f, f
	}
	return all
}()

// hashed is the name that browsers know a file by.
func hashed(name string) string { return files[name].name }

// serveFile answers with a file of that name, be it one of this program's or a site's own. It reports false if there is none: a file is served under the
// name with its hash alone.
func serveFile(w http.ResponseWriter, name string, own []*file) bool {
	f := files[name]
	if i := slices.IndexFunc(own, func(f *file) bool { return f.name == name }); i >= 0 {
		f = own[i]
	}
	if f == nil || f.name != name {
		return false
	}
	if f.policy != "" {
		w.Header().Set("Content-Security-Policy", f.policy)
	}
	w.Header().Set("Content-Type", f.mediaType)
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	_, _ = w.Write(f.bytes)
	return true
}
