import type { HealthMark } from '../protocol/api/health.ts';
import { JOB_RULES_IN_WORDS } from './job-health.ts';
import { PEER_RULES_IN_WORDS } from './peer-health.ts';

/** All rules of health in words, in the order in which they are tried, for help texts. */
export const HEALTH_RULES: Readonly<Record<'peer' | 'job', readonly HealthMark[]>> = {
  peer: PEER_RULES_IN_WORDS,
  job: JOB_RULES_IN_WORDS,
};
