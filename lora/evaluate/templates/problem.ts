/** Thrown for a template that cannot be rendered: it is wrong, does not fit the document, or is not supported. */
export class TemplateProblem extends Error {}
