// Reads events of billing as a service in Node would: kafkajs, and Ajv with the published schemas.
// It ends after so many events, and prints a line of JSON for each.
import fs from "node:fs";
import path from "node:path";
import Ajv from "ajv/dist/2020.js";
import addFormats from "ajv-formats";
import { Kafka, logLevel } from "kafkajs";

const [brokers, prefix, count, schemas, ...topics] = process.argv.slice(2);
const ajv = addFormats(new Ajv({ strict: true }));
const validators = new Map(
  topics.map((topic) => {
    const schema = fs.readFileSync(path.join(schemas, `${topic}.json`), "utf-8");
    return [prefix + topic, ajv.compile(JSON.parse(schema))];
  }),
);
const kafka = new Kafka({ clientId: "node", brokers: brokers.split(","), logLevel: logLevel.NOTHING });
const consumer = kafka.consumer({ groupId: `${prefix}node`, readUncommitted: false });
let left = Number(count);
const done = new Promise((resolve, reject) => {
  consumer.on(consumer.events.CRASH, ({ payload }) => reject(payload.error));
  consumer.on(consumer.events.END_BATCH_PROCESS, () => left <= 0 && resolve());
});
await consumer.connect();
await consumer.subscribe({ topics: [...validators.keys()], fromBeginning: true });
await consumer.run({
  eachMessage: async ({ topic, message }) => {
    const event = JSON.parse(message.value.toString());
    left -= 1;
    const validate = validators.get(topic);
    if (!validate(event)) throw new Error(`${topic}: ${ajv.errorsText(validate.errors)}`);
    console.log(
      JSON.stringify({
        type: event.event_type,
        id: event.event_id,
        key: message.key.toString(),
        sequence: Number(message.headers.sequence.toString()),
        credits: event.data.credits ?? null,
        amount: event.data.amount ?? null,
        platform: event.data.platform ?? null,
      }),
    );
  },
});
await done;
await consumer.disconnect();
