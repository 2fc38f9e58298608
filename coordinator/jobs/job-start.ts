import { isAbsolute } from 'node:path';
import { readStart, type StartAdapter, startSettings } from '../../lora/adapter/start.ts';
import { type JobSpec, type JobSpecInput, parseJobSpec } from '../../lora/finetune/settings/job-spec.ts';
import { type BaseModel, openBase } from '../../lora/models/base/base-model.ts';
import { findStart } from '../../registry/find-start.ts';
import type { OpenRegistryOptions } from '../../registry/open.ts';

/**
 * Completes the settings of a job that starts from an existing adapter. Finds the folder of the adapter, and takes the
 * LoRA settings and the chat template that the job does not set from the adapter.
 * @param written the job as its operator wrote it, without defaults
 * @param spec the job with absolute paths and the folder of its base
 * @throws SwarmError ADAPTER_START, ADAPTER_BASE, JOB_SPEC; the errors of `findStart` and `readPeftFolder`
 */
export async function startedJob(
  written: JobSpecInput,
  spec: JobSpec,
  options: OpenRegistryOptions & { signal: AbortSignal; cacheDir?: string },
): Promise<{ written: JobSpecInput; spec: JobSpec }> {
  if (spec.start === null) return { written, spec };
  const start = await findStart(spec.start, options);
  const model = await openBase(spec.base);
  const { filled, data } = await fillFromStart(written, start, model);
  const { lora } = parseJobSpec(filled);
  const { signal, cacheDir } = options;
  await readStart(start, model, lora, { signal, ...(cacheDir !== undefined && { cacheDir }) });
  return { written: filled, spec: { ...spec, lora, data: { ...spec.data, ...data }, start: start.folder } };
}

/**
 * Completes the settings of a job that a client sent to the coordinator. A client that cannot read the adapter, such as the
 * page, leaves out its LoRA settings and its chat template.
 * @param written the job as the client sent it, with absolute paths
 * @throws SwarmError JOB_SPEC; the errors of `openBase` and `readPeftFolder`
 */
export async function sentJob(written: unknown): Promise<JobSpec> {
  const spec = parseJobSpec(written);
  if (spec.start === null || !isAbsolute(spec.start)) return spec;
  const start = { folder: spec.start };
  return parseJobSpec(
    (await fillFromStart(written as JobSpecInput, start, await openBase(spec.base))).filled,
  );
}

/**
 * Adds the settings of the start adapter that the job does not set. Returns the completed job, and which settings of
 * its section `data` were added.
 */
async function fillFromStart(written: JobSpecInput, start: StartAdapter, model: BaseModel) {
  const own = await startSettings(start, model);
  const data = written.data.template === undefined ? own.data : {};
  const filled = { ...written, lora: { ...own.lora, ...written.lora }, data: { ...written.data, ...data } };
  return { filled, data };
}
