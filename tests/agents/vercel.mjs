// Runs conversations of the Vercel AI SDK and prints what the program that uses it would see, as one JSON array.
//
// Usage: node vercel.mjs URL KEY MODELS, with MODELS as {"openai": "...", "anthropic": "..."}.
// Each conversation takes the turns that tests/support/client_conversations.py lists for it, in the same order.
import { createAnthropic } from '@ai-sdk/anthropic';
import { createOpenAI } from '@ai-sdk/openai';
import { generateText, isStepCount, jsonSchema, streamText, tool } from 'ai';

const [url, apiKey, named] = process.argv.slice(2);
const models = JSON.parse(named);
const openai = createOpenAI({ baseURL: `${url}/v1`, apiKey });
const anthropic = createAnthropic({ baseURL: `${url}/v1`, apiKey });
const apis = [openai.chat(models.openai), openai.responses(models.openai), anthropic(models.anthropic)];
const tools = {
  read_file: tool({
    description: 'Reads a file.',
    inputSchema: jsonSchema({ type: 'object', properties: { path: { type: 'string' } }, required: ['path'] }),
    execute: async ({ path }) => `what ${path} holds`,
  }),
};

const plain = (value) => JSON.parse(JSON.stringify(value ?? null));
const failure = (error) => ({
  raised: error?.name ?? typeof error,
  status: error?.statusCode ?? null,
  message: error?.message ?? null,
  is_retryable: error?.isRetryable ?? null,
  data: plain(error?.data),
  retry_after: error?.responseHeaders?.['retry-after'] ?? null,
});
const seen = async (run) => {
  try {
    return await run();
  } catch (error) {
    return failure(error);
  }
};

const generated = (settings) => async () => {
  const { text, toolCalls, finishReason, usage, steps } = await generateText(settings);
  return plain({ text, toolCalls, finishReason, usage, contents: steps.map((step) => step.content) });
};
const streamed = (settings) => async () => {
  const parts = [];
  const { fullStream } = streamText({ ...settings, onError: () => {} });
  for await (const part of fullStream) {
    // What a step says of its own HTTP request and of the time is no part of the answer.
    const { request, response, warnings, performance, ...rest } = part;
    parts.push(rest.type === 'error' ? failure(rest.error) : plain(rest));
  }
  return parts;
};

const found = [];
for (const model of apis) {
  for (const run of [generated, streamed]) {
    const asked = { model, prompt: 'Say hello.', maxRetries: 0 };
    found.push(await seen(run(asked)));
    found.push(await seen(run({ ...asked, tools, stopWhen: isStepCount(2) })));
    found.push(await seen(run(asked)));
  }
}
console.log(JSON.stringify(found));
