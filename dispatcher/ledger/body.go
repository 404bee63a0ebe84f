package ledger

import (
	"fmt"
	"runtime"
	"strconv"

	"github.com/klauspost/compress/zstd"
)

const (
	// packFrom is how long a payload is at least that is compressed: a shorter one would save too little.
	packFrom = 1 << 10
	// packMost is how long it is at most. So whoever reads a frame needs no more memory than that, whatever became of it in Redis.
	packMost = 16 << 20
	// packSaves is which part of a payload has to be saved, for it to be stored compressed.
	packSaves = 10
	// packWindow bounds how far back a frame refers, and with it what an encoder remembers.
	packWindow = 512 << 10
	// packAtOnce is how many payloads are compressed, and how many decompressed, at the same time.
	packAtOnce = 4
)

// A codec compresses and decompresses payloads (zstd, RFC 8878). Both its parts are safe for concurrent use, and make a caller wait where as many are at it as
// may be. Its checksum costs four bytes: without it, a byte that Redis's disk lost would go out, signed, as a partner's payload.
type codec struct {
	encoder *zstd.Encoder
	decoder *zstd.Decoder
}

// codecs is the process's only one. It is whole before anybody uses it: the encoder makes its parts when it is first asked, and tests may ask within a bubble.
var codecs = newCodec()

func newCodec() codec {
	atOnce := min(runtime.GOMAXPROCS(0), packAtOnce)
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(atOnce), zstd.WithLowerEncoderMem(true),
		zstd.WithWindowSize(packWindow), zstd.WithEncoderCRC(true), zstd.WithAllLitEntropyCompression(true))
	if err != nil {
		panic(err) // its options are constants
	}
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(atOnce), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(packMost),
		zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		panic(err) // its options are constants
	}
	encoder.EncodeAll([]byte{0}, nil)
	return codec{encoder, decoder}
}

// packable reports whether a payload is of a length that is compressed.
func packable(payload []byte) bool { return len(payload) >= packFrom && len(payload) <= packMost }

// pack is what an event's hash gets of a payload: a frame, and the payload's own length; or the payload itself, and 0, if compressing saves too little.
func pack(payload []byte) (stored []byte, length int) {
	if !packable(payload) {
		return payload, 0
	}
	frame := codecs.encoder.EncodeAll(payload, make([]byte, 0, len(payload)/2))
	if len(frame) > len(payload)-len(payload)/packSaves {
		return payload, 0
	}
	return frame, len(payload)
}

// unpack is the inverse of pack. length is what the hash has: empty for a payload that was not compressed. A frame that is damaged is [ErrBadRecord], and
// takes no more memory than length says, which its own head has to say as well.
func unpack(stored []byte, length string) ([]byte, error) {
	if length == "" {
		return stored, nil
	}
	n, err := strconv.Atoi(length)
	var head zstd.Header
	if err != nil || n < packFrom || n > packMost || head.Decode(stored) != nil || head.FrameContentSize != uint64(n) {
		return nil, fmt.Errorf("a compressed payload is damaged: %d bytes say that they are another length than the %.20q that was noted: %w", len(stored), length, ErrBadRecord)
	}
	payload, err := codecs.decoder.DecodeAll(stored, make([]byte, 0, n))
	if err != nil || len(payload) != n {
		return nil, fmt.Errorf("a compressed payload is damaged: %d bytes do not make the %d that were accepted: %w", len(stored), n, ErrBadRecord)
	}
	return payload, nil
}
