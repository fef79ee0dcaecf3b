// Values of an SPZ file by the format's reference library, as JSON.
//   node spz_values.mjs FOLDER_OF_THE_LIBRARY FILE [AXES]
import {readFileSync} from "node:fs";
import {pathToFileURL} from "node:url";

const [library, file, axes] = process.argv.slice(2);
const {default: load} = await import(pathToFileURL(`${library}/dist/spz.js`));
const spz = await load();
const to = axes ? spz.CoordinateSystem[axes] : spz.CoordinateSystem.UNSPECIFIED;
const cloud = spz.loadSpzFromBuffer(new Uint8Array(readFileSync(file)), {to});
const names = ["positions", "scales", "rotations", "alphas", "colors", "sh"];
const values = Object.fromEntries(names.map((name) => [name, Array.from(cloud[name])]));
console.log(JSON.stringify({count: cloud.numPoints, degree: cloud.shDegree, antialiased: cloud.antialiased, ...values}));
