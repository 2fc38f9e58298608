/** Raises an error if a conversation uses tools, because these templates would silently leave out the tool calls. */
const NO_TOOLS = `{%- macro no_tools(called) %}{%- if called %}
{{- raise_exception('the built-in templates do not support tools; use the template of a model that does') }}
{%- endif %}{%- endmacro %}
{{- no_tools(tools) }}`;

/**
 * Chat templates for base models that have none.
 *
 * - `chatml`: OpenAI's ChatML. If its markers are not in the vocabulary, each is encoded as several tokens. This works,
 *   but conversations take more tokens.
 * - `plain`: roles as words, and the tokenizer's end-of-text token after each answer. Works with any tokenizer. A header
 *   ends without a space, so that the space belongs to the first word of the answer, as in running text.
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
