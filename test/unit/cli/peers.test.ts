import { expect, it } from 'vitest';
import { createProgram } from '../../../cli/program.ts';
import { answeringCoordinator } from '../../utils/answering-coordinator.ts';
import { fakeContext } from '../../utils/cli-context.ts';

const MEMBER = `12D3KooW${'a'.repeat(44)}`;
const OLD_HOME = `12D3KooW${'b'.repeat(44)}`;

/** Starts a coordinator with one job, whose invite two nodes with the name "ada" have used. @returns its home */
async function coordinator(members: readonly string[]): Promise<string> {
  const ada = (peer: string) => ({ peer, name: 'ada' });
  const answers: Record<string, object> = {
    '/v1/peers': { peers: members.map(ada), bans: [], former: [] },
    '/v1/status': { jobs: [{ job: 'ab' }] },
    '/v1/jobs/ab/invites': { invites: [{ nodes: [ada(MEMBER), ada(OLD_HOME)] }] },
  };
  const none = { receipts: [], scores: [], standings: [], strikes: [], bans: [] };
  return answeringCoordinator(({ url = '' }, response) => {
    response.end(JSON.stringify(answers[url] ?? { peer: url.split('/').at(-1), ...none }));
  });
}

async function why(home: string, name: string): Promise<unknown> {
  const { context, out } = fakeContext({ cwd: home });
  const args = ['peers', '--why', name, '--home', home, '--json'];
  await createProgram(context).parseAsync(args, { from: 'user' });
  return JSON.parse(out());
}

it('finds a member by its name, though an earlier node of its owner had the same name', async () => {
  expect(await why(await coordinator([MEMBER]), 'ada')).toMatchObject({ peer: MEMBER });
  await expect(why(await coordinator([]), 'ada')).rejects.toMatchObject({ code: 'USAGE' });
});
