import type { ComponentLogger, Logger } from '@libp2p/interface';

const quiet: Logger = Object.assign(() => {}, {
  error: () => {},
  trace: () => {},
  enabled: false,
  newScope: () => quiet,
});

/**
 * A logger for libp2p that does nothing. libp2p's own logger creates a dozen functions and looks at the terminal for
 * each connection, muxer and stream, although the lines are never read. To see the lines, remove this option in
 * create.ts and set `DEBUG=libp2p:*`.
 */
export const quietLogger: ComponentLogger = { forComponent: () => quiet };
