import { Argument, type Command } from 'commander';
import type { Context } from '../context.ts';
import { jsonOption } from '../options/common.ts';
import { printJson } from '../print.ts';

const SHELLS = ['bash', 'zsh', 'fish', 'powershell'] as const;

export function registerCompletion(program: Command, context: Context): void {
  program
    .command('completion')
    .description(
      'print a script with which a shell completes commands, options, and values such as jobs, peers, rounds, adapters and settings',
    )
    .addArgument(new Argument('<shell>', 'the shell; bash needs the package bash-completion').choices(SHELLS))
    .addOption(jsonOption())
    .action(async (shell: (typeof SHELLS)[number], { json }: { json?: boolean }) => {
      const [{ script }, { printedBy }] = await Promise.all([
        import('@bomb.sh/tab'),
        import('../completion/suggest.ts'),
      ]);
      const printed = printedBy(() => script(shell, program.name(), program.name())).join('\n');
      const text = shell === 'bash' ? withOwnVariables(withWordBreaks(printed)) : printed;
      if (json) printJson(context, { schemaVersion: 1, shell, script: text });
      else context.stdout.write(`${text}\n`);
    });
  program
    .command('complete', { hidden: true })
    .description(
      'print suggestions for the last word of a command line; the scripts of "completion" use this command',
    )
    .argument('[word...]', 'after "--": the words after the name of the program')
    .addOption(jsonOption())
    .action(async (words: string[], { json }: { json?: boolean }) => {
      const [{ suggest, suggestionText }, { valuesOf }] = await Promise.all([
        import('../completion/suggest.ts'),
        import('../completion/values.ts'),
      ]);
      const suggestions = await suggest(program, words, (kind) => valuesOf(context, kind, words));
      if (json) printJson(context, { schemaVersion: 1, ...suggestions });
      else context.stdout.write(`${suggestionText(suggestions)}\n`);
    });
}

/**
 * Lets bash complete values with a colon or an equals sign, such as `demo:best` and `polite=on`. bash starts a new word
 * after these characters, so each suggestion must lack the part up to the character. The script of @bomb.sh/tab 0.0.22 does
 * not remove this part. The first added line removes it for the colon, with a function of bash-completion. The second added
 * line removes it for the equals sign.
 */
function withWordBreaks(script: string): string {
  const added = [
    '__ltrim_colon_completions "$cur"',
    `if [[ "$cur" == *=* && "$COMP_WORDBREAKS" == *=* ]]; then COMPREPLY=("\${COMPREPLY[@]#"\${cur%"\${cur##*=}"}"}"); fi`,
  ];
  return script.replace(/^( *)COMPREPLY=.*completions\[\*\].*$/m, (line, indent: string) =>
    [line, ...added.map((text) => `${indent}${text}`)].join('\n'),
  );
}

/**
 * Lets bash read the script again in the same shell, and beside the scripts of other programs that use @bomb.sh/tab. They
 * all declare the same readonly variables, and bash reports an error when a readonly variable is assigned again.
 */
function withOwnVariables(script: string): string {
  return script.replace(/^readonly /gm, '').replaceAll('ShellCompDirective', '__lora_swarm_directive_');
}
