/** Notice to the owner of a node. It is logged when a node uses a home for the first time. */
export const CONSENT_NOTICE = [
  'This node shares: LoRA updates, its peer id, its address, its speed.',
  'LoRA updates do not protect privacy, because training text can be reconstructed from them.',
  'Data and base model come from the job; the node reads none of your own files.',
].join('\n');
