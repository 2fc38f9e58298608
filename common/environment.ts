/** Environment variables by name. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** Returns the variables of this process. They are the default of functions that take an environment. */
export function processEnvironment(): Environment {
  return process.env;
}
