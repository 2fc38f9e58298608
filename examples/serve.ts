// Serves a small model and an adapter with OpenAI's API, sends one request to each, and stops.
// Run: node examples/serve.ts [ADAPTER-FOLDER]
import { nanoModel, openGenerator, startModelServer } from 'lora-swarm';

const [folder] = process.argv.slice(2);

// The generator runs the model in a separate process.
const generator = await openGenerator({ base: nanoModel(), compute: { threads: 1 } });
const server = await startModelServer(
  { name: 'nano', adapters: folder === undefined ? [] : [{ name: 'mine', folder }] },
  { generator, onServed: ({ path, status, ms }) => console.log(`${status} ${path}, ${Math.round(ms)} ms`) },
);
console.log(`serving at ${server.url}/v1`);

for (const { id } of await server.models()) {
  const response = await fetch(`${server.url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model: id, prompt: 'The captain stood', max_tokens: 20, temperature: 0 }),
  });
  const { choices } = (await response.json()) as { choices: { text: string }[] };
  console.log(`${id}: ${choices[0]?.text.trim()}`);
}

await server.stop();
await generator.close();
