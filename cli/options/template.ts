import { resolve } from 'node:path';
import { isBuiltIn } from '../../lora/data/render/built-in.ts';

/** Returns a chat template of the flag --template: a built-in name, or the path of a file, resolved against `cwd`. */
export function templatePath(template: string, cwd: string): string {
  return isBuiltIn(template) ? template : resolve(cwd, template);
}
