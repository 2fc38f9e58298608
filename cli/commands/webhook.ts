import type { Command } from 'commander';
import { formatDuration, safeText } from '../../common/text.ts';
import type { WebhookAttempt, WebhookView } from '../../index.ts';
import { SWARM } from '../command-name.ts';
import type { Context } from '../context.ts';
import { coordinatorApi } from '../daemon/connect.ts';
import { cliError } from '../error-codes.ts';
import { homeOption, jsonOption } from '../options/common.ts';
import { printJson, printLines } from '../print.ts';

interface WebhookOptions {
  home?: string;
  json?: boolean;
}

export function registerWebhook(program: Command, context: Context): void {
  const command = program
    .command('webhook')
    .helpCommand(false)
    .description(
      'show and test the webhooks with which a coordinator tells other programs what happens in its jobs',
    );
  const add = (name: string, text: string): Command =>
    command.command(name).description(text).addOption(homeOption()).addOption(jsonOption());
  add(
    'list',
    'list the webhooks of the coordinator, with the messages that wait and the newest attempt',
  ).action((options: WebhookOptions) => list(context, options));
  add('test', 'send a message of type "test" to every webhook of the coordinator immediately').action(
    (options: WebhookOptions) => test(context, options),
  );
}

async function list(context: Context, options: WebhookOptions): Promise<void> {
  const webhooks = await (await coordinatorApi(context, options)).webhooks();
  if (options.json) printJson(context, { schemaVersion: 1, webhooks });
  else
    printLines(context, webhooks.length === 0 ? noneLines() : webhooks.flatMap((one) => lines(one, context)));
}

/** @throws SwarmError WEBHOOK_MISSING, WEBHOOK_FAILED */
async function test(context: Context, options: WebhookOptions): Promise<void> {
  const results = await (await coordinatorApi(context, options)).testWebhooks();
  if (results.length === 0) {
    throw cliError('WEBHOOK_MISSING', 'this coordinator has no webhooks', {}, { next: noneLines()[1]! });
  }
  const failed = results.filter(({ attempt }) => !attempt.ok);
  if (!options.json) {
    printLines(
      context,
      results.map(({ url, attempt }) => `${url}  ${outcome(attempt)}`),
    );
  } else if (failed.length === 0) printJson(context, { schemaVersion: 1, results });
  if (failed.length === 0) return;
  // With --json this error is the only object that is printed, so it contains the outcomes.
  throw cliError(
    'WEBHOOK_FAILED',
    `${failed.length} of ${results.length} webhooks did not accept the test: ${safeText(failed[0]!.attempt.reason)}`,
    { results },
    {
      next:
        failed[0]!.attempt.next ??
        'check the URL, and that the receiver answers with an HTTP status from 200 to 299',
    },
  );
}

function lines({ url, events, queued, last }: WebhookView, { clock }: Context): string[] {
  const ago = last === null ? '' : `, ${formatDuration((clock.now() - last.at) / 1000)} ago`;
  return [
    url,
    `  events      ${events.join(', ')}`,
    `  waiting     ${queued}`,
    `  newest      ${last === null ? 'no attempt since the start of the coordinator' : `${outcome(last)}${ago}`}`,
  ];
}

function outcome({ ok, status, reason }: WebhookAttempt): string {
  return ok ? `delivered (HTTP status ${status})` : `failed: ${safeText(reason)}`;
}

function noneLines(): string[] {
  return [
    'this coordinator has no webhooks',
    `start the coordinator with "${SWARM} coordinator --webhook URL", or list webhooks in the file webhooks.yaml of its home`,
  ];
}
