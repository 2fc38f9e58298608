/**
 * Makes the data of examples/tasks: passages of Moby-Dick, pairs of sentences, and questions. The functions below
 * compose the sentences and questions at random. Run: node scripts/example-tasks.ts
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { mobyDick } from '../common/samples.ts';
import { SeededRandom } from '../lora/data/seeded-random.ts';

const FOLDER = join(import.meta.dirname, '..', 'examples', 'tasks', 'data');
const random = new SeededRandom(2026);

function pick<T>(from: readonly T[]): T {
  return from[random.integer(from.length)]!;
}

/** Draws `count` different items from a list, in a random order. */
function draw<T>(from: readonly T[], count: number): T[] {
  const rest = [...from];
  return Array.from({ length: count }, () => rest.splice(random.integer(rest.length), 1)[0]!);
}

function write(name: string, rows: readonly object[]): void {
  writeFileSync(join(FOLDER, name), rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
}

/**
 * Returns a passage from the end of each chapter. A passage consists of whole sentences with at least `words` words in
 * total. Chapters without a suitable passage are left out, for example if the passage is too long.
 */
function passages(words: number): string[] {
  const folder = dirname(mobyDick());
  const chapters = readdirSync(folder).filter((name) => /^chapter_\d+\.txt$/.test(name));
  const numbered = chapters.sort((a, b) => Number(/\d+/.exec(a)![0]) - Number(/\d+/.exec(b)![0]));
  return numbered.flatMap((name) => {
    const text = readFileSync(join(folder, name), 'utf8').replace(/\s+/g, ' ').trim();
    const sentences = text.match(/[^.!?]+[.!?]+["'”’)]*\s*/g) ?? [];
    let passage = '';
    while (sentences.length > 0 && passage.split(' ').length < words) passage = sentences.pop()! + passage;
    const clean = passage.trim().replace(/[.!?"'”’)]+$/, '');
    const fits = clean.split(' ').length >= words && clean.length < 11 * words;
    return fits && /^[\x20-\x7e]+$/.test(clean) && /[a-z]{3}$/.test(clean) ? [clean] : [];
  });
}

const PEOPLE = [
  ['captain', 'captains'],
  ['sailor', 'sailors'],
  ['farmer', 'farmers'],
  ['citizen', 'citizens'],
] as const;
const NOUNS = [
  ...PEOPLE,
  ['whale', 'whales'],
  ['ship', 'ships'],
  ['nation', 'nations'],
  ['law', 'laws'],
] as const;
const VERBS = [
  { forms: ['is', 'are'], ends: ['here', 'free', 'old', 'at sea'] },
  { forms: ['was', 'were'], ends: ['here', 'free', 'old', 'at sea'] },
  { forms: ['has', 'have'], ends: ['a friend', 'no fear', 'many friends', 'great power'] },
] as const;
const LINKS = ['near', 'behind', 'beside', 'with'];

/** Returns a correct sentence, and the same sentence with a verb, determiner or pronoun in the wrong number. */
function minimalPair(): object {
  const kind = pick(['verb', 'verb_with_attractor', 'determiner', 'reflexive'] as const);
  const plural = random.integer(2);
  const noun = pick(kind === 'reflexive' ? PEOPLE : NOUNS)[plural];
  const { forms, ends } = pick(VERBS);
  const end = pick(ends);
  const between = `${pick(LINKS)} the ${pick(NOUNS)[1 - plural]}`;
  const sentence = (number: number): string => {
    switch (kind) {
      case 'verb':
        return `The ${noun} ${forms[number]} ${end}.`;
      case 'verb_with_attractor':
        return `The ${noun} ${between} ${forms[number]} ${end}.`;
      case 'determiner':
        return `${number === 0 ? 'This' : 'These'} ${noun} ${forms[plural]} ${end}.`;
      case 'reflexive':
        return `The ${noun} saved ${number === 0 ? 'himself' : 'themselves'}.`;
    }
  };
  return { kind, sentence_good: sentence(plural), sentence_bad: sentence(1 - plural) };
}

const NAMES = ['Anna', 'Ben', 'Clara', 'David', 'Emma', 'Frank', 'Grace', 'Henry'];
const THINGS = ['boat', 'book', 'coat', 'drum', 'hat', 'horse', 'knife', 'lamp'];
const COLOURS = ['black', 'blue', 'brown', 'green', 'red', 'white', 'yellow'];

/** Returns three facts, a question about one of them, and four possible answers. */
function question(): object {
  const people = draw(NAMES, 3);
  const things = draw(THINGS, 3);
  const colours = draw(COLOURS, 4);
  const facts = people.map((name, i) => `${name} has a ${colours[i]} ${things[i]}.`);
  const asked = random.integer(3);
  const choices = draw(colours, 4);
  const answer = colours[asked]!;
  return {
    passage: facts.join(' '),
    question: `What colour is the ${things[asked]} of ${people[asked]}?`,
    answer,
    choices,
    label: choices.indexOf(answer),
  };
}

const ends = passages(40);
const pages = [...ends.slice(80, 88), ...passages(500).slice(0, 3)];
write(
  'last-words.jsonl',
  ends.slice(0, 80).map((text) => ({ text })),
);
write(
  'chapters.jsonl',
  pages.map((page) => ({ page })),
);
const pairs = new Map(Array.from({ length: 400 }, minimalPair).map((pair) => [JSON.stringify(pair), pair]));
write('minimal-pairs.jsonl', [...pairs.values()].slice(0, 100));
write('questions-train.jsonl', Array.from({ length: 20 }, question));
write('questions.jsonl', Array.from({ length: 40 }, question));
