package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"

	"github.com/redis/go-redis/v9"
	"github.com/urfave/cli/v2"

	"github.com/ringback/ringback/registry"
)

// findKeyset is the keyset in RINGBACK_KEYSET, or else that of the file. If there is none yet, it makes one, unless Redis was written with one.
func findKeyset(ctx context.Context, rdb redis.UniversalClient, file string, log *slog.Logger) (*registry.Keyset, error) {
	if text := os.Getenv("RINGBACK_KEYSET"); text != "" {
		keyset, err := registry.ParseKeyset([]byte(text))
		if err != nil {
			return nil, misconfigured(fmt.Errorf("RINGBACK_KEYSET is no keyset; copy the whole content of a keyset file: %w", err))
		}
		return keyset, nil
	}
	file, err := keysetFile(file)
	if err != nil {
		return nil, err
	}
	return keysetAt(ctx, rdb, file, log)
}

// keysetAt is the keyset of a file. If there is none yet, it makes one, unless Redis was written with one.
func keysetAt(ctx context.Context, rdb redis.UniversalClient, file string, log *slog.Logger) (*registry.Keyset, error) {
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		sealed, err := registry.Sealed(ctx, rdb)
		if err != nil {
			return nil, err
		}
		if sealed {
			return nil, misconfigured(fmt.Errorf("there is no keyset at %s, and this Redis holds registrations sealed with one: give that with --keyset-file or RINGBACK_KEYSET", file))
		}
	}
	if err := checkKeysetFile(ctx, file, log); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return nil, misconfigured(fmt.Errorf("making the keyset's folder: %w", err))
	}
	keyset, created, err := registry.LoadOrCreateKeyset(file)
	if err != nil {
		return nil, misconfigured(fmt.Errorf("the keyset: %w", err))
	}
	if created {
		log.WarnContext(ctx, "made a new keyset: back it up, for what is sealed in Redis cannot be read without it, and give every process of this installation the same", "file", file)
	}
	return keyset, nil
}

// keysetFile is where the keyset is kept, if not in the file that was named.
func keysetFile(named string) (string, error) { return keysetNamed(named, "keyset.json") }

// keysetNamed is the file that was named, or that of a name in the user's config folder.
func keysetNamed(named, name string) (string, error) {
	if named != "" {
		return named, nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", misconfigured(errors.New("nowhere to keep the keyset: give --keyset-file or RINGBACK_KEYSET"))
	}
	return filepath.Join(dir, "ringback", name), nil
}

// readKeyset is findKeyset for commands that only look.
func readKeyset(file string) (*registry.Keyset, error) {
	if text := os.Getenv("RINGBACK_KEYSET"); text != "" {
		return registry.ParseKeyset([]byte(text))
	}
	file, err := keysetFile(file)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(file) //nolint:gosec // the operator's own choice of a file
	if err != nil {
		return nil, fmt.Errorf("there is no keyset: %w", err)
	}
	return registry.ParseKeyset(text)
}

// othersMay are the bits of a file's mode that let others than its owner do anything with it.
const othersMay fs.FileMode = 0o077

// checkKeysetFile refuses a keyset file that others than its owner may open: with it and Redis they have every secret. If it is on a
// read-only mount, as orchestrators give secrets, nobody here can change its mode, and the log warns instead. A file that is not there is fine.
func checkKeysetFile(ctx context.Context, file string, log *slog.Logger) error {
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm()&othersMay == 0 {
		return nil //nolint:nilerr // whoever reads it says more
	}
	exposed := fmt.Sprintf("others than its owner may open the keyset file %s (mode %04o)", file, info.Mode().Perm())
	if errors.Is(syscall.Access(file, accessWrite), syscall.EROFS) {
		log.WarnContext(ctx, exposed+": let the mount give it mode 0400, if it can")
		return nil
	}
	return misconfigured(fmt.Errorf("%s: run chmod 600 %s, and replace the keyset if they should not have it", exposed, file))
}

// accessWrite is access(2)'s W_OK.
const accessWrite = 2

func keysetFlag() cli.Flag {
	return &cli.StringFlag{
		Name: "keyset-file", Usage: "`FILE` of the keyset that seals secrets in Redis; made on the first start", DefaultText: "ringback/keyset.json in the user's config folder",
		EnvVars: []string{"RINGBACK_KEYSET_FILE"},
	}
}
