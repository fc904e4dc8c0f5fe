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
  if [ "${COMP_WORDS[1]}" = help ]; then
    COMPREPLY=($(compgen -W "COMMANDS" -- "$word"))
    return
  fi
  case "$word" in
    -*) ;;
    *)
      case "${COMP_WORDS[COMP_CWORD - 1]}" in
        --task) COMPREPLY=($(compgen -W "TASKS" -- "$word")) ;;
        --*) COMPREPLY=($(compgen -W "$(bertune "${COMP_WORDS[1]}" --help 2>/dev/null |
          grep -oE -- "${COMP_WORDS[COMP_CWORD - 1]} \{[^}]*\}" | head -n 1 |
          grep -oE '[{,][^{},]+' | tr -d '{,')" -- "$word")) ;;
      esac
      return ;;
  esac
  for ((i = 2; i < COMP_CWORD - 1; i++)); do
    [ "${COMP_WORDS[i]}" = --task ] && task=(--task "${COMP_WORDS[i + 1]}")
  done
  COMPREPLY=($(compgen -W "$(bertune "${COMP_WORDS[1]}" "${task[@]}" --help 2>/dev/null |
    grep -oE -- '--[a-z0-9][a-z0-9-]*' | sort -u)" -- "$word"))
}
complete -o default -F _bertune bertune
"""
_FISH = r"""complete -c bertune -n __fish_use_subcommand -f -a "COMMANDS"
complete -c bertune -n '__fish_seen_subcommand_from help' -f -a "COMMANDS"
complete -c bertune -n 'test (count (commandline -opc)) -gt 2; and test (commandline -opc)[-1] = --task' -f -a "TASKS"
complete -c bertune -n 'not __fish_use_subcommand' -a "(bertune (commandline -opc)[2] --help 2>/dev/null | string match -ra -- '--[a-z0-9][a-z0-9-]*' | sort -u)"
"""  # noqa: E501
SCRIPTS = {"bash": _BASH, "zsh": "autoload -U +X bashcompinit && bashcompinit\n" + _BASH, "fish": _FISH}


def main(argv: Sequence[str]) -> None:
    """Print the script for a shell."""
    from bertune.cli.general import VERBS
    from bertune.tasks.registry import TASKS

    known = ", ".join(SCRIPTS)
    if list(argv) in (["--help"], ["-h"]):
        print(f"usage: bertune completion SHELL\n\nPrint a script that completes commands and options in {known}.\n")
        print("For example:")
        print("  bertune completion bash > ~/.local/share/bash-completion/completions/bertune")
        return
    if len(argv) != 1 or argv[0] not in SCRIPTS:
        raise InputError(f"bertune completion: name one shell: {known}")
    script = SCRIPTS[argv[0]].replace("COMMANDS", " ".join(VERBS)).replace("TASKS", " ".join(TASKS))
    print(script, end="")
