import { createHash } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { jobTopic } from '../../protocol/job/topics.ts';
import { eventually } from '../utils/eventually.ts';
import { listen, untilHeard } from '../utils/swarm/gossip-listeners.ts';
import { join, startHost } from '../utils/swarm/hosts.ts';

const job = createHash('sha256').update('gossip tests').digest('hex');
const updates = jobTopic(job, 'updates');
const heads = jobTopic(job, 'heads');

describe('messages of nodes', () => {
  it('are not forwarded by a coordinator, which only reads them', async () => {
    const [node, coordinator, stranger] = await Promise.all([startHost(), startHost(), startHost()]);
    await Promise.all([join(node, coordinator), join(stranger, coordinator)]);
    const read: string[] = [];
    coordinator.network.subscribe(
      updates,
      ({ data }) => {
        read.push(Buffer.from(data).toString());
        return 'accept';
      },
      { forwards: false },
    );
    coordinator.network.subscribe(heads, () => 'accept');
    const overheard = listen(stranger, updates);
    const forwarded = listen(stranger, heads);
    let n = 0;
    await eventually(async () => {
      await node.network.publish(updates, Buffer.from(`update ${n}`));
      await node.network.publish(heads, Buffer.from(`head ${n++}`));
      return read.length > 4 && forwarded.heard.length > 4;
    });
    // This is time for heartbeats of gossipsub, at which it offers messages to further peers.
    await pause(2_500);
    expect(overheard.heard).toEqual([]);
  });

  it('reach only the peers that the node names as confidants, whichever peers subscribe', async () => {
    const [coordinator, stranger] = await Promise.all([startHost(), startHost()]);
    const node = await startHost({ confidants: [coordinator.peer] });
    await Promise.all([join(stranger, node), join(coordinator, node)]);
    const [read, overheard] = [listen(coordinator, updates), listen(stranger, updates)];
    const ofHeads = listen(stranger, heads);
    await untilHeard(node, updates, [read], 'update');
    await untilHeard(node, heads, [ofHeads], 'head');
    await pause(2_500);
    expect(overheard.heard).toEqual([]);
  });
});
