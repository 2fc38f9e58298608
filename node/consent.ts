/** Said once per home, when a node joins its first swarm. */
export const CONSENT_NOTICE = [
  'What this node shares: LoRA updates, its peer id, its address, its speed.',
  'LoRA updates do not give privacy: training text can be rebuilt from them, so lend your machine, not your secrets.',
  'Data and base model come from the job; nothing of your own files is read.',
].join('\n');
