/** Notice to the owner of a node. It is logged when a node uses a home for the first time. */
export const CONSENT_NOTICE = [
  'This node shares with all members of its jobs: its peer id, its address, its LoRA updates, and their tokens, losses and speed.',
  'It shares with the coordinators of its jobs: its name, version, engine, traffic and clock, what it does, and why it pauses.',
  'A coordinator can show the name, the peer id and the tokens of this node on a public page.',
  'LoRA updates do not protect privacy, because training text can be reconstructed from them.',
  'Data and base model come from the job; the node reads none of your own files.',
].join('\n');
