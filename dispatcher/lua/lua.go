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
	strings.Split(source(headName)+"\n"+strings.TrimSpace(registry.AuditLua)+"\n\nlocal trail = prefix .. 'audit'\n\n"+inTrail+"\n\n"+
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

// inTrail is how a script finds that an earlier run of it wrote a line of the audit trail, which is like no other. Since then others may have been written, but few. A line of an
// hour ago may be of another request, under an Idempotency-Key that was used anew.
const inTrail = `local function inTrail(line)
  for _, entry in ipairs(redis.call('XREVRANGE', trail, '+', int(now - 3600000), 'COUNT', 16)) do
    if entry[2][2] == line then return true end
  end
end`

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

// rare are functions of the head for what most runs do not meet, such as a closed gate, a failure, or a batch.
var rare = []string{
	"spread", "way", "whole", "statusOf", "retries", "unlist", "health", "letters", "unbook", "unsettle", "queue", "ending", "forming",
	"perish", "bury", "spare", "tokenIn", "nextPlace", "gather", "makeRoom", "stand", "later", "stumble", "trouble", "forgive", "audit",
}

// lean is a script below what it uses of the head. What only rare functions use is defined with them, the first time that a run calls one of them: a dozen
// functions to define cost a run as much as an event to accept.
func lean(text string) string {
	often, seldom, first := split(text)
	if len(seldom) == 0 {
		return strings.Join(append(often, text), "\n\n")
	}
	calls := regexp.MustCompile(`\b(` + strings.Join(first, "|") + `)\(`)
	for i, part := range often {
		often[i] = calls.ReplaceAllString(part, "rarely().$1(")
	}
	fields := make([]string, len(first))
	for i, name := range first {
		fields[i] = name + " = " + name
	}
	whole := slices.Concat([]string{often[0], "local seldom, rarely"}, often[1:], []string{"rarely = function()\nif seldom then return seldom end"}, seldom)
	return strings.Join(append(whole, "seldom = {"+strings.Join(fields, ", ")+"}\nreturn seldom\nend", calls.ReplaceAllString(text, "rarely().$1(")), "\n\n")
}

// split finds the parts of the head that a script uses, and by which rare functions it comes to those that it seldom does.
func split(text string) (often, seldom, first []string) {
	used, later := words(text), make(map[string]bool) // later: by what is rare
	for i, part := range slices.Backward(head) {
		var common, rarely bool
		for _, name := range part.declares {
			common = common || used[name] && !slices.Contains(rare, name)
			rarely = rarely || used[name] || later[name]
		}
		switch {
		case i == 0 || common:
			maps.Copy(used, part.uses)
			often = append(often, part.text)
		case rarely:
			maps.Copy(later, part.uses)
			seldom = append(seldom, part.text)
			first = append(first, slices.DeleteFunc(slices.Clone(part.declares), func(name string) bool { return !used[name] })...)
		}
	}
	slices.Reverse(often)
	slices.Reverse(seldom)
	return often, seldom, first
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
