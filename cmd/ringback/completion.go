package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/ringback/ringback/cmd/ringback/bench"
)

// completeWords is the first argument when a shell asks how a command line may go on. The words so far follow. The last of them, which may be
// empty, is the one to complete. urfave/cli has a way of its own, but it does not know flags that stand anywhere.
const completeWords = "__complete"

// The scripts ask the program itself, so they need not change when it does. Where it knows nothing, shells offer files.
var completionScripts = map[string]string{
	"bash": `# Completion of ringback for bash: put this line into ~/.bashrc:  source <(ringback completion bash)
_ringback() {
	local word=${COMP_WORDS[COMP_CWORD]} line
	COMPREPLY=()
	while IFS= read -r line; do
		COMPREPLY+=("${line%%$'\t'*}")
	done < <("${COMP_WORDS[0]}" ` + completeWords + ` "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -o default -F _ringback ringback
`,
	"zsh": `#compdef ringback
# Completion of ringback for zsh: put this line into ~/.zshrc, after compinit:  source <(ringback completion zsh)
_ringback() {
	local line
	local -a found
	while IFS= read -r line; do
		found+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
	done < <("${words[1]}" ` + completeWords + ` "${(@)words[2,CURRENT]}" 2>/dev/null)
	if (( ${#found} )); then
		_describe ringback found
	else
		_files
	fi
}
if [ "${funcstack[1]}" = _ringback ]; then
	_ringback "$@"
else
	compdef _ringback ringback
fi
`,
	"fish": `# Completion of ringback for fish: ringback completion fish > ~/.config/fish/completions/ringback.fish
complete -c ringback -a '(ringback ` + completeWords + ` (commandline -opc)[2..-1] (commandline -ct) 2>/dev/null)'
`,
}

func completionCommand() *cli.Command {
	script := func(shell, how string) *cli.Command {
		return &cli.Command{
			Name: shell, Usage: "print the script for " + shell, Description: examples(how),
			Action: func(c *cli.Context) error {
				if _, err := arguments(c); err != nil {
					return err
				}
				_, err := io.WriteString(c.App.Writer, completionScripts[shell])
				return err
			},
		}
	}
	return &cli.Command{
		Name: "completion", Usage: "print a script that makes a shell complete commands and flags",
		Subcommands: []*cli.Command{
			script("bash", "source <(ringback completion bash)"),
			script("zsh", "source <(ringback completion zsh)"),
			script("fish", "ringback completion fish > ~/.config/fish/completions/ringback.fish"),
		},
	}
}

// values are those of flags that take one of a few.
var values = map[string][]string{
	"output":       {"table", "json"},
	"role":         {"operator", "producer", "partner", "viewer"},
	"status":       {"enabled", "paused", "disabled", "unverified"},
	"state":        {"pending", "active", "retrying", "held", "delivered", "dead", "cancelled"},
	"method":       {"POST", "PUT", "PATCH"},
	"content-type": {"application/json", "application/x-www-form-urlencoded"},
	"success":      {"json_200_or_204", "any_2xx", "any_response"},
	"envelope":     {"none", "cloudevents-structured", "cloudevents-binary"},
	"body":         {"full", "thin"},
	"validation":   {"enforce", "warn"},
	"scenario":     bench.Names(),
}

// complete prints the words that the last of words may become, one a line, with what each is for after a tab. It prints nothing where it does not
// know, such as for ids and files.
func complete(root *cli.App, words []string) {
	if len(words) == 0 {
		return
	}
	word, before := words[len(words)-1], words[:len(words)-1]
	commands, flags := root.Commands, root.Flags
	var valueOf cli.Flag // the flag whose value comes next
	arguments := 0
	for _, w := range before {
		switch {
		case valueOf != nil:
			valueOf = nil
		case w == "--":
			return
		case strings.HasPrefix(w, "-") && w != "-":
			name, _, hasValue := strings.Cut(strings.TrimLeft(w, "-"), "=")
			if f := findFlag(flags, name); f != nil && takesValue(f) && !hasValue {
				valueOf = f
			}
		default:
			next := findCommand(commands, w)
			if next == nil || arguments > 0 {
				arguments++
				continue
			}
			commands, flags = next.Subcommands, slices.Concat(next.Flags, root.Flags)
		}
	}
	offer := func(name, usage string) {
		if strings.HasPrefix(name, word) {
			_, _ = fmt.Fprintf(root.Writer, "%s\t%s\n", name, strings.ReplaceAll(usage, "`", ""))
		}
	}
	switch {
	case valueOf != nil:
		for _, value := range values[valueOf.Names()[0]] {
			offer(value, "")
		}
	case strings.HasPrefix(word, "-"):
		for _, f := range flags {
			if doc, ok := f.(cli.DocGenerationFlag); ok {
				offer("--"+f.Names()[0], doc.GetUsage())
			}
		}
		offer("--help", "show help")
	case arguments == 0:
		for _, c := range commands {
			if !c.Hidden {
				offer(c.Name, c.Usage)
			}
		}
	}
}
