// Messages of Khronos' validator about a glTF file, as JSON.
//   node gltf_report.cjs FOLDER_OF_THE_VALIDATOR FILE
const {readFileSync} = require("node:fs");
const [library, file] = process.argv.slice(2);
const validator = require(library);
validator.validateBytes(new Uint8Array(readFileSync(file)), {maxIssues: 10000}).then((report) => console.log(JSON.stringify(report.issues.messages)));
