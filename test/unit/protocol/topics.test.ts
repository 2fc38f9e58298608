import { expect, it } from 'vitest';
import { jobChannels, jobTopic, parseJobTopic } from '../../../protocol/topics.ts';

const job = '0123456789abcdef'.repeat(4);

it('job topics name their job and channel, both ways', () => {
  for (const channel of jobChannels) {
    expect(parseJobTopic(jobTopic(job, channel)), channel).toEqual({ job, channel });
  }
});

it('anything else is not a job topic', () => {
  for (const topic of [
    '',
    '/lora-swarm/1/heads',
    jobTopic(job, 'heads').toUpperCase(),
    `${jobTopic(job, 'heads')}/x`,
    `/lora-swarm/1/${job}/other`,
  ]) {
    expect(parseJobTopic(topic), topic).toBeNull();
  }
});
