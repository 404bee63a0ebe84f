package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"io"
	"os"
	"strconv"

	"github.com/urfave/cli/v2"

	"github.com/ringback/ringback/dispatcher/client"
)

// maxLine is how long an event may be that the server takes by default.
const maxLine = 1 << 20

// source is where events come from.
type source struct {
	name string
	in   *bufio.Reader
	file *os.File    // nil for stdin
	info os.FileInfo // as the file was when its hash was taken; nil if it cannot be read again
	size int64       // -1: not known
	// hash names the file by what is in it; empty if it cannot be read twice, and then not resumed.
	hash string
}

// openEvents opens a file of events, and reads it once for its hash.
func openEvents(c *cli.Context, name string) (*source, error) {
	s := &source{name: fileName(name), size: -1}
	if name == "-" {
		s.in = bufio.NewReader(c.App.Reader)
		return s, nil
	}
	var err error
	if s.file, err = os.Open(name); err != nil { //nolint:gosec // reading the file that the user named is the point
		return nil, err
	}
	info, err := s.file.Stat()
	if err == nil && info.Mode().IsRegular() {
		err = s.fingerprint(info)
	}
	if err != nil {
		s.close()
		return nil, err
	}
	s.in = bufio.NewReader(s.file)
	return s, nil
}

func (s *source) fingerprint(info os.FileInfo) error {
	sum := sha256.New()
	if _, err := io.Copy(sum, s.file); err != nil {
		return err
	}
	if _, err := s.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	s.info, s.size = info, info.Size()
	s.hash = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding).EncodeToString(sum.Sum(nil)[:16])
	return nil
}

func (s *source) close() {
	if s.file != nil {
		_ = s.file.Close()
	}
}

// changed reports whether somebody wrote to the file while it was sent: then its ids are those of another file.
func (s *source) changed() bool {
	if s.info == nil {
		return false
	}
	now, err := s.file.Stat()
	return err != nil || now.Size() != s.info.Size() || !now.ModTime().Equal(s.info.ModTime())
}

// identified is a line with an event_id: its own, or one that names file and line. made reports that it was made up at random.
func (s *source) identified(e entry) (line []byte, made bool) {
	id := ""
	if s.hash != "" {
		id = "file_" + s.hash + ":" + strconv.Itoa(e.number)
	}
	line, _ = client.Identified(e.line, id)
	return line, id == "" && len(line) != len(e.line)
}

// entry is a line of the source, with its number.
type entry struct {
	number int
	line   []byte // nil: it is too long to be read
}

// next reads the next line that is not blank. If a line is too long, only its number is kept.
func (s *source) next(at *position) (entry, error) {
	for {
		var line []byte
		var long bool
		for {
			part, err := s.in.ReadSlice('\n')
			at.bytes += int64(len(part))
			if long = long || len(line)+len(part) > maxLine+len("\r\n"); long {
				line = nil
			} else {
				line = append(line, part...)
			}
			if errors.Is(err, bufio.ErrBufferFull) {
				continue
			}
			if err != nil && (!errors.Is(err, io.EOF) || len(line) == 0 && !long) {
				return entry{}, err
			}
			break
		}
		at.line++
		if at.line == 1 {
			line = bytes.TrimPrefix(line, byteOrderMark)
		}
		if line = bytes.TrimSpace(line); long || len(line) > maxLine {
			return entry{at.line, nil}, nil
		}
		if len(line) > 0 {
			return entry{at.line, line}, nil
		}
	}
}

// position is how far a source has been read.
type position struct {
	line  int
	bytes int64
}

// rejects keeps lines that were refused. The nil value keeps none.
type rejects struct {
	file *os.File
	w    *bufio.Writer
}

// openRejects makes the file anew: an empty one says that nothing was refused.
func openRejects(name string, from *source) (*rejects, error) {
	if name == "" {
		return nil, nil
	}
	if info, err := os.Stat(name); err == nil && from.info != nil && os.SameFile(info, from.info) {
		return nil, usagef("--rejects would overwrite %s: give it another file", from.name)
	}
	file, err := os.Create(name) //nolint:gosec // writing the file that the user named is the point
	if err != nil {
		return nil, err
	}
	return &rejects{file, bufio.NewWriter(file)}, nil
}

func (r *rejects) keep(line []byte) {
	if r != nil && line != nil {
		_, _ = r.w.Write(line) // Flush returns what went wrong
		_ = r.w.WriteByte('\n')
	}
}

func (r *rejects) close() error {
	if r == nil {
		return nil
	}
	return errors.Join(r.w.Flush(), r.file.Close())
}
