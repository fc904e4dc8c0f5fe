"""`bertune completion bash|zsh|fish`: a script that completes commands and their options.

The script asks `bertune COMMAND --help`, with `--task` where one was typed, so it never is behind the options.
"""

from collections.abc import Sequence

from bertune.errors import InputError

_BASH = r"""_bertune() {
  local word="${COMP_WORDS[COMP_CWORD]}" task=() i
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "COMMANDS" -- "$word"))
    return
  fi
  case "$word" in -*) ;; *) return ;; esac
  for ((i = 2; i < COMP_CWORD - 1; i++)); do
    [ "${COMP_WORDS[i]}" = --task ] && task=(--task "${COMP_WORDS[i + 1]}")
  done
  COMPREPLY=($(compgen -W "$(bertune "${COMP_WORDS[1]}" "${task[@]}" --help 2>/dev/null |
    grep -oE -- '--[a-z0-9][a-z0-9-]*' | sort -u)" -- "$word"))
}
complete -o default -F _bertune bertune
"""
_FISH = r"""complete -c bertune -n __fish_use_subcommand -f -a "COMMANDS"
complete -c bertune -n 'not __fish_use_subcommand' -a "(bertune (commandline -opc)[2] --help 2>/dev/null | string match -ra -- '--[a-z0-9][a-z0-9-]*' | sort -u)"
"""  # noqa: E501
SCRIPTS = {"bash": _BASH, "zsh": "autoload -U +X bashcompinit && bashcompinit\n" + _BASH, "fish": _FISH}


def main(argv: Sequence[str]) -> None:
    """Print the script for a shell."""
    from bertune.cli.main import VERBS

    known = ", ".join(SCRIPTS)
    if list(argv) in (["--help"], ["-h"]):
        print(f"usage: bertune completion SHELL\n\nPrint a script that completes commands and options in {known}.")
        print("For example: bertune completion bash > ~/.local/share/bash-completion/completions/bertune")
        return
    if len(argv) != 1 or argv[0] not in SCRIPTS:
        raise InputError(f"bertune completion: name one shell: {known}")
    print(SCRIPTS[argv[0]].replace("COMMANDS", " ".join(VERBS)), end="")
