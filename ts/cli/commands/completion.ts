/** `caisson completion SHELL`: what completes a command line there asks `caisson __complete`. */
import { type CommandShape, command } from '../command.ts';
import { ExitCode } from '../failure.ts';

const SHAPE: CommandShape = {
  name: 'completion',
  usage: 'bash|zsh|fish',
  takes: [1, 1],
  summary: 'Print what completes commands in bash, zsh or fish',
  flags: [],
  examples: [
    'caisson completion bash > /etc/bash_completion.d/caisson',
    'caisson completion zsh > /usr/local/share/zsh/site-functions/_caisson',
    'caisson completion fish > ~/.config/fish/completions/caisson.fish',
  ],
};

/** Without an answer of ours the shell offers files. */
const SCRIPTS: Record<string, string> = {
  bash: `_caisson() {
  local line
  COMPREPLY=()
  while IFS= read -r line; do COMPREPLY+=("\${line%%$'\t'*}"); done \
    < <(caisson __complete "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -o default -F _caisson caisson
`,
  zsh: `#compdef caisson
_caisson() {
  local -a found
  local line
  while IFS= read -r line; do
    found+=("\${\${line%%$'\t'*}//:/\\\\:}:\${line#*$'\t'}")
  done < <(caisson __complete "\${(@)words[2,CURRENT]}" 2>/dev/null)
  if (( \${#found} )); then _describe caisson found; else _files; fi
}
compdef _caisson caisson
`,
  fish: `function __caisson_complete
  set -l words (commandline -opc) (commandline -ct)
  caisson __complete $words[2..-1] 2>/dev/null
end
complete -c caisson -a '(__caisson_complete)'
`,
};

export default command(SHAPE, async ({ args }) => {
  const [shell = ''] = args;
  const script = Object.hasOwn(SCRIPTS, shell) ? SCRIPTS[shell] : undefined;
  if (script === undefined) throw new ExitCode(1, `caisson: no completion for ${shell}: there is bash, zsh and fish`);
  process.stdout.write(script);
  return 0;
});
