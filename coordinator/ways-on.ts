/** Returns the commands with which an operator trains on after the end of a job. */
export function waysOn(name: string): string {
  return (
    `to go on from its newest checkpoint, give the job file another name and run "lora-swarm job create FILE --from ${name}"; ` +
    `to start again from its initial adapter, run "lora-swarm job clone ${name}"`
  );
}
