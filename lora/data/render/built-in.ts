/** Chat templates by name, for base models that have none. */

/** A conversation would lose its calls without a word. */
const NO_TOOLS = `{%- macro no_tools(called) %}{%- if called %}
{{- raise_exception('built-in templates have no form for tools; name a template of a model that has') }}
{%- endif %}{%- endmacro %}
{{- no_tools(tools) }}`;

/**
 * `chatml`: the format of OpenAI's ChatML. Its marks are single tokens only where the tokenizer knows them;
 * elsewhere they are spelled out, which works and costs tokens.
 *
 * `plain`: roles as words, and the tokenizer's own end-of-text token after each answer: for any tokenizer. A
 * header ends without a blank, so that the blank belongs to the first word of the answer as in running text.
 */
export const BUILT_IN_TEMPLATES: Readonly<Record<'chatml' | 'plain', string>> = {
  chatml: `${NO_TOOLS}
{%- for message in messages %}
{{- no_tools(message.tool_calls) }}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}`,
  plain: `${NO_TOOLS}
{{- bos_token or '' }}
{%- for message in messages %}
{{- no_tools(message.tool_calls) }}
{{- message.role | capitalize + ': ' + message.content | trim }}
{%- if message.role == 'assistant' %}{{- eos_token or '' }}{%- endif %}{{- '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- 'Assistant:' }}{%- endif %}`,
};

export type BuiltInTemplate = keyof typeof BUILT_IN_TEMPLATES;

export function isBuiltIn(name: string): name is BuiltInTemplate {
  return Object.hasOwn(BUILT_IN_TEMPLATES, name);
}
