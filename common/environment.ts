/** Environment variables by name. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** Returns the variables of this process: the default where a program does not pass its own. */
export function processEnvironment(): Environment {
  return process.env;
}
