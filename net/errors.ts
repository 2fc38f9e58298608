import { defineErrors } from '../common/errors.ts';

const CHECK_REACHABILITY =
  'check the address, and check that the other machine is running and its port is open';

export const netError = defineErrors({
  ADDRESSES_PRIVATE: 'failed',
  BLOB_BUSY: 'failed',
  BLOB_UNAVAILABLE: {
    kind: 'failed',
    next: 'try again when a machine that has the file is running and can be reached',
  },
  CONNECTION_REFUSED: 'failed',
  CONNECT_FAILED: { kind: 'timeout', next: CHECK_REACHABILITY },
  DIAL_BACK_REFUSED: 'refused',
  FRAME_FLOOD: 'failed',
  FRAME_TOO_LARGE: 'failed',
  FRAME_TRUNCATED: 'failed',
  HOST_STOPPED: 'failed',
  IDENTITY_CORRUPT: {
    kind: 'failed',
    next: 'restore the file from a backup, or move it away to start as a new peer',
  },
  MUXER_FRAME: 'failed',
  PEER_DISCONNECTED: 'failed',
  PROTOCOL_VERSION: { kind: 'failed', next: 'run the same version of lora-swarm on both machines' },
  RPC_BUSY: { kind: 'failed', next: 'try again in a moment' },
  RPC_METHOD_UNKNOWN: 'notFound',
  RPC_RATE_LIMITED: { kind: 'failed', next: 'call less often' },
  RPC_REFUSED: 'refused',
  RPC_TIMEOUT: {
    kind: 'timeout',
    next: 'try again; if it fails again, check the load and the network of the other machine',
  },
  RPC_UNREACHABLE: { kind: 'timeout', next: CHECK_REACHABILITY },
  STREAM_CLOSED: 'failed',
  TOPIC_UNKNOWN: 'notFound',
});
