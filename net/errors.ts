import { defineErrors } from '../common/errors.ts';

export const netError = defineErrors({
  BLOB_BUSY: 'failed',
  BLOB_UNAVAILABLE: 'failed',
  CONNECT_FAILED: {
    kind: 'timeout',
    next: 'check the address, and that the other machine is up and its port is open',
  },
  FRAME_FLOOD: 'failed',
  FRAME_TOO_LARGE: 'failed',
  FRAME_TRUNCATED: 'failed',
  HOST_STOPPED: 'failed',
  IDENTITY_CORRUPT: 'failed',
  LISTEN_FAILED: 'conflict',
  MUXER_FRAME: 'failed',
  RPC_BUSY: 'failed',
  RPC_METHOD_UNKNOWN: 'notFound',
  RPC_RATE_LIMITED: 'failed',
  RPC_REFUSED: 'refused',
  RPC_TIMEOUT: 'timeout',
  RPC_UNREACHABLE: {
    kind: 'timeout',
    next: 'check the address, and that the other machine is up and its port is open',
  },
  STREAM_CLOSED: 'failed',
  TOPIC_UNKNOWN: 'notFound',
});
