/** Syntax trees of templates, as the package @huggingface/jinja parses them. */
import { parse, tokenize } from '../../data/render/jinja-package.ts';
import { TemplateProblem } from './problem.ts';

/** Maximum length of a template, in characters. */
const MAX_CHARACTERS = 128 * 1024;

type Token = { readonly value: string };
type Name = { readonly type: 'Identifier'; readonly value: string };
type List = { readonly type: 'ArrayLiteral' | 'TupleLiteral'; readonly value: readonly Expression[] };
export type Call = {
  readonly type: 'CallExpression';
  readonly callee: Expression;
  readonly args: readonly Argument[];
};
export type Slice = {
  readonly type: 'SliceExpression';
  readonly start?: Expression;
  readonly stop?: Expression;
  readonly step?: Expression;
};
type Keyword = { readonly type: 'KeywordArgumentExpression'; readonly key: Name; readonly value: Expression };
export type Argument = Expression | Keyword;
export type Member = {
  readonly type: 'MemberExpression';
  readonly object: Expression;
  readonly property: Expression | Slice;
  readonly computed: boolean;
};

export type Expression =
  | Name
  | List
  | Call
  | Member
  | { readonly type: 'IntegerLiteral' | 'FloatLiteral'; readonly value: number }
  | { readonly type: 'StringLiteral'; readonly value: string }
  | { readonly type: 'ObjectLiteral'; readonly value: ReadonlyMap<Expression, Expression> }
  | {
      readonly type: 'BinaryExpression';
      readonly operator: Token;
      readonly left: Expression;
      readonly right: Expression;
    }
  | { readonly type: 'UnaryExpression'; readonly operator: Token; readonly argument: Expression }
  | { readonly type: 'FilterExpression'; readonly operand: Expression; readonly filter: Name | Call }
  | {
      readonly type: 'TestExpression';
      readonly operand: Expression;
      readonly negate: boolean;
      readonly test: Name;
    }
  | {
      readonly type: 'Ternary';
      readonly condition: Expression;
      readonly trueExpr: Expression;
      readonly falseExpr: Expression;
    }
  | { readonly type: 'SelectExpression'; readonly lhs: Expression; readonly test: Expression };

export type Statement =
  | Expression
  | { readonly type: 'Comment' }
  | {
      readonly type: 'If';
      readonly test: Expression;
      readonly body: readonly Statement[];
      readonly alternate: readonly Statement[];
    }
  | {
      readonly type: 'For';
      readonly loopvar: Name | List;
      readonly iterable: Expression;
      readonly body: readonly Statement[];
      readonly defaultBlock: readonly Statement[];
    }
  | {
      readonly type: 'Set';
      readonly assignee: Expression;
      readonly value: Expression | null;
      readonly body: readonly Statement[];
    };

/** Parses a template. White space around blocks stays as it is. @throws TemplateProblem */
export function parseTemplate(source: string): readonly Statement[] {
  if (source.length > MAX_CHARACTERS) {
    throw new TemplateProblem(`it has ${source.length} characters; the limit is ${MAX_CHARACTERS}`);
  }
  // The parser removes one line break at the end. lm-evaluation-harness keeps it, so a second line break is
  // added.
  const kept = source.endsWith('\n') ? `${source}\n` : source;
  try {
    const program = parse(tokenize(kept, { trim_blocks: false, lstrip_blocks: false }));
    return (program as unknown as { body: readonly Statement[] }).body;
  } catch (error) {
    throw new TemplateProblem(error instanceof Error ? error.message : String(error));
  }
}
