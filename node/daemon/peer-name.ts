import { createHash } from 'node:crypto';

const ADJECTIVES =
  'able amber brave brisk calm clever copper coral dapper eager early fair fleet fond gentle glad golden grand happy hardy ' +
  'honest humble jolly keen kind lively lucky merry mild misty modest noble patient placid plucky polite proud quick quiet ' +
  'rapid ready rosy royal rustic silent silver sleepy smooth snowy sober solid spry steady stout sturdy sunny swift tidy ' +
  'tranquil trusty velvet vivid warm wise witty';
const ANIMALS =
  'badger bat bear beaver bison boar bream carp cat cod crab crane crow deer dove duck eagle eel elk falcon finch fox frog ' +
  'gnu goat goose grouse gull hare hawk heron ibex jay kite koala lark lemur llama lynx magpie mole moose newt otter owl ' +
  'panda perch pike plover pony quail rabbit raven robin seal shrew sloth snail stork swan tern toad trout vole whale wren';

/**
 * Makes a readable name from a peer id, such as "brave-otter". A peer always gets the same name. Names are not unique,
 * and prove nothing about a peer.
 */
export function peerName(peerId: string): string {
  const hash = createHash('sha256').update(peerId).digest();
  const pick = (words: string, number: number): string => {
    const list = words.split(' ');
    return list[number % list.length]!;
  };
  return `${pick(ADJECTIVES, hash.readUInt32LE(0))}-${pick(ANIMALS, hash.readUInt32LE(4))}`;
}
