import { defineErrors } from '../common/errors.ts';

export const cliError = defineErrors({
  BROWSER_NOT_OPENED: 'failed',
  DATA_PROBLEMS: 'failed',
  DEMO_OVER: 'failed',
  HELPER_FAILED: 'failed',
  JOB_FAILED: 'failed',
  JOB_PAUSED: 'paused',
  LOG_NOT_FOUND: 'notFound',
  NOT_CONFIRMED: 'failed',
  NOT_PUBLISHED: 'failed',
  PACKAGE_MISSING: 'notFound',
  PEER_NOT_FOUND: 'notFound',
  READY_TIMEOUT: 'timeout',
  SERVICE_EXISTS: 'conflict',
  SERVICE_FAILED: 'failed',
  SERVICE_NOT_FOUND: 'notFound',
  SERVICE_UNSUPPORTED: 'failed',
  UNHEALTHY: 'unhealthy',
  WAIT_TIMED_OUT: 'timeout',
  WEBHOOK_FAILED: 'failed',
  WEBHOOK_MISSING: 'notFound',
});
