import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { dynamicName } from '../../graph/dynamic.ts';

/*
 * The part of the ONNX format (onnx/onnx.proto3, IR version 9) that our graphs need. Fields are written one by one with
 * a protobuf library's wire writer, without generated code or a copy of the schema.
 */

export type Attribute = number | string | readonly number[] | { readonly float: number };

export interface OnnxNode {
  readonly type: string;
  readonly domain: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes: Readonly<Record<string, Attribute>>;
}

export interface OnnxValue {
  readonly name: string;
  readonly dtype: 'float32' | 'int64' | 'uint8' | 'int8';
  readonly shape: readonly number[];
}

export interface OnnxInitializer extends OnnxValue {
  /** The bytes, or their location: a file name beside the model, offset and length in bytes. */
  readonly data: Uint8Array | { readonly file: string; readonly offset: number; readonly length: number };
}

export interface OnnxModel {
  readonly nodes: readonly OnnxNode[];
  readonly initializers: readonly OnnxInitializer[];
  readonly inputs: readonly OnnxValue[];
  readonly outputs: readonly OnnxValue[];
}

const IR_VERSION = 9;
const OPERATOR_SETS = [
  { domain: '', version: 18 },
  { domain: 'com.microsoft', version: 1 },
];
const ELEMENT_TYPE = { float32: 1, uint8: 2, int8: 3, int64: 7 } as const;
const EXTERNAL = 1;
const ATTRIBUTE_TYPE = { float: 1, int: 2, string: 3, ints: 7 } as const;

/** Encodes a model as the bytes of an ONNX ModelProto. */
export function encodeModel(model: OnnxModel): Uint8Array {
  const writer = new BinaryWriter();
  integer(writer, 1, IR_VERSION);
  text(writer, 2, 'lora-swarm');
  message(writer, 7, () => {
    for (const node of model.nodes) message(writer, 1, () => writeNode(writer, node));
    text(writer, 2, 'graph');
    for (const initializer of model.initializers) message(writer, 5, () => writeTensor(writer, initializer));
    for (const input of model.inputs) message(writer, 11, () => writeValue(writer, input));
    for (const output of model.outputs) message(writer, 12, () => writeValue(writer, output));
  });
  for (const { domain, version } of OPERATOR_SETS) {
    message(writer, 8, () => {
      text(writer, 1, domain);
      integer(writer, 2, version);
    });
  }
  return writer.finish();
}

function writeNode(writer: BinaryWriter, node: OnnxNode): void {
  for (const input of node.inputs) text(writer, 1, input);
  for (const output of node.outputs) text(writer, 2, output);
  text(writer, 3, `${node.type}${node.outputs[0]}`);
  text(writer, 4, node.type);
  for (const [name, value] of Object.entries(node.attributes)) {
    message(writer, 5, () => writeAttribute(writer, name, value));
  }
  text(writer, 7, node.domain);
}

function writeAttribute(writer: BinaryWriter, name: string, value: Attribute): void {
  text(writer, 1, name);
  if (typeof value === 'number') {
    integer(writer, 3, value);
    integer(writer, 20, ATTRIBUTE_TYPE.int);
  } else if (typeof value === 'string') {
    text(writer, 4, value);
    integer(writer, 20, ATTRIBUTE_TYPE.string);
  } else if ('float' in value) {
    writer.tag(2, WireType.Bit32).float(value.float);
    integer(writer, 20, ATTRIBUTE_TYPE.float);
  } else {
    for (const item of value) integer(writer, 8, item);
    integer(writer, 20, ATTRIBUTE_TYPE.ints);
  }
}

function writeTensor(writer: BinaryWriter, tensor: OnnxInitializer): void {
  for (const size of tensor.shape) integer(writer, 1, size);
  integer(writer, 2, ELEMENT_TYPE[tensor.dtype]);
  text(writer, 8, tensor.name);
  if (tensor.data instanceof Uint8Array) {
    writer.tag(9, WireType.LengthDelimited).bytes(tensor.data);
    return;
  }
  const { file, offset, length } = tensor.data;
  for (const [key, value] of Object.entries({ location: file, offset: `${offset}`, length: `${length}` })) {
    message(writer, 13, () => {
      text(writer, 1, key);
      text(writer, 2, value);
    });
  }
  integer(writer, 14, EXTERNAL);
}

function writeValue(writer: BinaryWriter, value: OnnxValue): void {
  text(writer, 1, value.name);
  message(writer, 2, () =>
    message(writer, 1, () => {
      integer(writer, 1, ELEMENT_TYPE[value.dtype]);
      message(writer, 2, () => {
        for (const size of value.shape) {
          const name = dynamicName(size);
          message(writer, 1, () => (name === undefined ? integer(writer, 1, size) : text(writer, 2, name)));
        }
      });
    }),
  );
}

function message(writer: BinaryWriter, field: number, write: () => void): void {
  writer.tag(field, WireType.LengthDelimited).fork();
  write();
  writer.join();
}

function text(writer: BinaryWriter, field: number, value: string): void {
  writer.tag(field, WireType.LengthDelimited).string(value);
}

function integer(writer: BinaryWriter, field: number, value: number): void {
  writer.tag(field, WireType.Varint).int64(value);
}
