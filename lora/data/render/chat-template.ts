/** Reads the chat template and the special tokens of a model from its folder. */

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { isSystemError, type SwarmError } from '../../../common/errors.ts';
import { TOOL_TEMPLATE_FILE } from '../../models/base/base-identity.ts';
import { dataError } from '../errors.ts';
import { BUILT_IN_TEMPLATES, isBuiltIn } from './built-in.ts';

/** Maximum size of a file, in bytes. A tokenizer_config.json with every added token has a few hundred kilobytes. */
const MAX_CONFIG_BYTES = 16 * 1024 * 1024;

/** Special tokens that transformers passes to templates as variables. */
export const SPECIAL_TOKENS = [
  'bos_token',
  'eos_token',
  'unk_token',
  'sep_token',
  'pad_token',
  'cls_token',
  'mask_token',
] as const;
export type SpecialTokens = Partial<Record<(typeof SPECIAL_TOKENS)[number], string>>;

export interface TemplateSources {
  /** Source of the templates, for display: a file, or "built in: chatml". */
  readonly origin: string;
  /** Templates by name: `default`, and `tool_use` if the model has a separate template for conversations with tools. */
  readonly templates: Readonly<Record<string, string>>;
}

const tokenSchema = z.union([
  z.string(),
  z.object({ content: z.string() }).transform(({ content }) => content),
]);
const configSchema = z.object({
  chat_template: z
    .union([z.string(), z.array(z.object({ name: z.string(), template: z.string() }))])
    .nullish(),
  ...Object.fromEntries(SPECIAL_TOKENS.map((name) => [name, tokenSchema.nullish().catch(null)])),
});

/**
 * Reads the chat template and the special tokens of the model in `dir`.
 *
 * As in transformers, the file `chat_template.jinja` takes precedence over the field `chat_template` in
 * tokenizer_config.json. Beside the file there may be `additional_chat_templates/tool_use.jinja`, for conversations
 * with tools. The field holds one template as text, or a list of named templates.
 * @param override name of a built-in template, or a file; null for the model's own template
 * @throws TEMPLATE_UNREADABLE
 */
export async function readTemplates(
  dir: string,
  override: string | null,
): Promise<{ sources: TemplateSources | null; specialTokens: SpecialTokens }> {
  const configFile = join(dir, 'tokenizer_config.json');
  const config = parseConfig(await readOptional(configFile), configFile);
  const specialTokens: SpecialTokens = {};
  for (const name of SPECIAL_TOKENS) {
    const token = config[name as keyof typeof config];
    if (typeof token === 'string') specialTokens[name] = token;
  }
  return {
    sources: await chooseTemplates(dir, override, config.chat_template ?? null, configFile),
    specialTokens,
  };
}

/**
 * Returns the source of the template that replaces the model's own.
 * @param override name of a built-in template, or a file; null for the model's own template
 * @returns null for the model's own template
 * @throws TEMPLATE_UNREADABLE
 */
export async function replacingTemplate(dir: string, override: string | null): Promise<string | null> {
  if (override === null) return null;
  return (await readTemplates(dir, override)).sources?.templates.default ?? null;
}

async function chooseTemplates(
  dir: string,
  override: string | null,
  configured: string | { name: string; template: string }[] | null,
  configFile: string,
): Promise<TemplateSources | null> {
  if (override !== null) {
    if (isBuiltIn(override)) {
      return { origin: `built in: ${override}`, templates: { default: BUILT_IN_TEMPLATES[override] } };
    }
    const source = await readOptional(override);
    if (source === null) {
      const names = Object.keys(BUILT_IN_TEMPLATES).join(' and ');
      throw unreadable(override, `there is no such file, and the built-in templates are ${names}`);
    }
    return { origin: override, templates: { default: source } };
  }
  const own = join(dir, 'chat_template.jinja');
  const source = await readOptional(own);
  if (source !== null) {
    // transformers 5 saves the template for tools in this file.
    const withTools = await readOptional(join(dir, TOOL_TEMPLATE_FILE));
    return {
      origin: own,
      templates: { default: source, ...(withTools !== null && { tool_use: withTools }) },
    };
  }
  if (configured === null) return null;
  if (typeof configured === 'string') return { origin: configFile, templates: { default: configured } };
  const named = Object.fromEntries(configured.map(({ name, template }) => [name, template]));
  const first = configured[0];
  if (first === undefined) return null;
  return { origin: configFile, templates: { ...named, default: named.default ?? first.template } };
}

function parseConfig(text: string | null, file: string): z.output<typeof configSchema> {
  if (text === null) return {};
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw unreadable(file, 'it is not JSON', error);
  }
  const parsed = configSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw unreadable(file, 'chat_template is neither a text nor a list of {name, template}', parsed.error);
}

async function readOptional(file: string): Promise<string | null> {
  try {
    const bytes = await readFile(file);
    if (bytes.length <= MAX_CONFIG_BYTES) return bytes.toString('utf8');
  } catch (error) {
    if (isSystemError(error, 'ENOENT')) return null;
    throw unreadable(file, 'it cannot be read', error);
  }
  throw unreadable(file, `it is larger than ${MAX_CONFIG_BYTES} bytes`);
}

function unreadable(file: string, reason: string, cause?: unknown): SwarmError {
  return dataError('TEMPLATE_UNREADABLE', `${file}: ${reason}`, { file, reason }, { cause });
}
