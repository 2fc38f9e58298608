import { Readable } from 'node:stream';
import type { FastifyReply } from 'fastify';
import { errorAnswer } from './errors.ts';

/**
 * Sends objects as server-sent events, followed by the event `[DONE]`. If `objects` throws an error, sends the error as an
 * event, because the status 200 has already been sent.
 *
 * @param onError called with the error
 */
export function sendEvents(
  reply: FastifyReply,
  objects: AsyncGenerator<object, void, undefined>,
  onError: (error: unknown) => void,
): FastifyReply {
  const events = async function* (): AsyncGenerator<string, void, undefined> {
    try {
      for await (const object of objects) yield event(JSON.stringify(object));
    } catch (error) {
      onError(error);
      yield event(JSON.stringify(errorAnswer(error).body));
    }
    yield event('[DONE]');
  };
  return (
    reply
      .header('content-type', 'text/event-stream; charset=utf-8')
      // Without this header, nginx collects the events before it passes them on.
      .header('x-accel-buffering', 'no')
      .send(Readable.from(events(), { objectMode: false }))
  );
}

function event(data: string): string {
  return `data: ${data}\n\n`;
}
