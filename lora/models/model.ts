/** A base model as the rest of the system sees it: opened, named by its content, made ready for an engine. */
export { type BaseDescription, type BaseFile, describeBase } from './base.ts';
export { type Model, openModel } from './folder.ts';
export { prepareWeights } from './weights.ts';
