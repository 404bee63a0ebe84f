// Package lua holds the engine's scripts: each is one step of the crash story in package dispatcher's documentation, and one run of Redis.
package lua

import (
	"embed"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/registry"
	"github.com/ringback/ringback/registry/once"
)

//go:embed *.lua
var files embed.FS

// headName is the file that is none of them: what they share.
const headName = "record"

// head is that file, in its parts, and what package registry has to add: how a line of the company's audit trail is written, and when a company is asleep. Below its first part, which every script has, stands what is
// shared with Go.
var head = parts(slices.Insert(
	strings.Split(source(headName)+"\n"+strings.TrimSpace(registry.AuditLua)+"\n\nlocal trail = prefix .. 'audit'\n\n"+
		strings.TrimSpace(registry.AwakeLua)+"\n\n"+wakes, "\n\n"), 1, shared...))

// A part of the head is read once, since every process does it as it starts.
type part struct {
	text     string
	uses     map[string]bool // words
	declares []string
}

func parts(texts []string) []part {
	all := make([]part, len(texts))
	for i, text := range texts {
		all[i] = part{text: text, uses: words(text), declares: declared(text)}
	}
	return all
}

// Awake is the word in the settings that stands before a run's leave to wake its company.
const Awake = " wake "

// wakes is what a script calls before it makes work for the reconciler's rounds: nil, or the answer that the company is asleep. Then it must have changed
// nothing of what it repeats.
const wakes = `local vigil = prefix .. 'awake'
local roused = false
local function sleeping()
  if roused then return nil end
  local nap = asleep(vigil, prefix .. 'ver', string.match(settings, '` + Awake + `(%d+ %d+)') or '')
  roused = not nap
  return nap
end

local function work()
  return redis.call('EXISTS', due, rooms, prefix .. 'paged', prefix .. 'notices', prefix .. 'replaying', prefix .. 'prune') > 0
end
`

// scripts are all of them, by name.
var scripts = assemble()

func assemble() map[string]*redis.Script {
	all := make(map[string]*redis.Script)
	entries, err := files.ReadDir(".")
	if err != nil {
		panic(err) // a build without its scripts
	}
	for _, entry := range entries {
		if name := strings.TrimSuffix(entry.Name(), ".lua"); name != headName {
			all[name] = New(source(name))
		}
	}
	return all
}

// Script returns the script of that name, which there must be.
func Script(name string) *redis.Script {
	script, ok := scripts[name]
	if !ok {
		panic("there is no script " + name)
	}
	return script
}

// Names are the scripts' names by what Redis calls them: the SHA-1 in hexadecimal, which EVALSHA takes and SLOWLOG shows.
func Names() map[string]string {
	names := make(map[string]string, len(scripts))
	for name, script := range scripts {
		names[script.Hash()] = name
	}
	return names
}

// Acting is the script of that name as one that acts. acted is a Lua expression about reply: whether that is the answer of a run that acted.
func Acting(name, acted string) *once.Script { return once.New(name, lean(source(name)), acted) }

// New is a script of its own lines below those parts of the head that it uses: Redis runs all of it each time, and would spend more on defining
// what is not used than on many a step.
func New(text string) *redis.Script { return redis.NewScript(lean(text)) }

func lean(text string) string {
	used, texts := words(text), []string{text}
	for i, part := range slices.Backward(head) {
		if i > 0 && !slices.ContainsFunc(part.declares, func(name string) bool { return used[name] }) {
			continue
		}
		maps.Copy(used, part.uses)
		texts = append(texts, part.text)
	}
	slices.Reverse(texts)
	return strings.Join(texts, "\n\n")
}

// words are all that a Lua text calls by name, and a few more: what stands in its strings.
func words(text string) map[string]bool {
	found := make(map[string]bool)
	for line := range strings.Lines(text) {
		code, _, _ := strings.Cut(line, "--")
		for _, name := range strings.FieldsFunc(code, func(r rune) bool { return !strings.ContainsRune(inWords, r) }) {
			found[strings.TrimLeft(name, digits)] = true
		}
	}
	return found
}

const (
	digits  = "0123456789"
	inWords = digits + "_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
)

var declaration = regexp.MustCompile(`(?m)^local (?:function )?(\w+(?:, \w+)*)`)

// declared are the names that a part of the head gives to what stands below.
func declared(part string) (names []string) {
	for _, line := range declaration.FindAllStringSubmatch(part, -1) {
		names = append(names, strings.Split(line[1], ", ")...)
	}
	return names
}

func source(name string) string {
	b, err := files.ReadFile(name + ".lua")
	if err != nil {
		panic(err) // a build without its scripts
	}
	return string(b)
}
