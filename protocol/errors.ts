import { defineErrors } from '../common/errors.ts';

export const protocolError = defineErrors({
  HEAD_UNREADABLE: 'failed',
  INVITE_INVALID: {
    kind: 'usage',
    next: 'paste the whole invite, one line that begins with "swarm1"',
  },
  MESSAGE_INVALID: 'failed',
  MESSAGE_KIND: 'failed',
  MESSAGE_MALFORMED: 'failed',
  MESSAGE_TOO_LARGE: 'failed',
  PEER_ID_INVALID: {
    kind: 'usage',
    next: 'give the whole peer id, which begins with 12D3KooW; "lora-swarm status" shows it',
  },
  SEALING_KEY_INVALID: 'failed',
  SEAL_INVALID: 'failed',
  SETTINGS_CHAIN: 'failed',
  SETTINGS_MISMATCH: 'failed',
  SIGNATURE_INVALID: 'failed',
  TICKET_INVALID: {
    kind: 'usage',
    next: 'paste the whole ticket, one line that begins with "swarmv1"',
  },
});
