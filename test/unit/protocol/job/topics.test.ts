import { expect, it } from 'vitest';
import { jobChannels, jobTopic, parseJobTopic } from '../../../../protocol/job/topics.ts';

const job = '0123456789abcdef'.repeat(4);

it('formats and parses the topics of a job', () => {
  for (const channel of jobChannels) {
    expect(parseJobTopic(jobTopic(job, channel)), channel).toEqual({ job, channel });
  }
});

it('parses any other topic as null', () => {
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
