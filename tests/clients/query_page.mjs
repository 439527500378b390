// The query page in a real browser: asks a dataset, reads the table, and asks nobody but the server.
//
//     node tests/clients/query_page.mjs http://127.0.0.1:8080 [chromium]
//
// Needs the package playwright-core, and a dataset `kb` with one triple, <urn:ann> <urn:name> "Ann".
import { chromium } from "playwright-core";

const [base, executablePath = "/usr/bin/chromium"] = process.argv.slice(2);
const args = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"];
const browser = await chromium.launch({ executablePath, args });
const problems = [];
try {
  const page = await browser.newPage();
  page.on("request", (request) => {
    const url = request.url();
    if (!url.startsWith(base) && !url.startsWith("data:")) problems.push(`it asks ${url}`);
  });
  page.on("pageerror", (error) => problems.push(`an error: ${error.message}`));
  page.on("console", (message) => {
    if (message.type() === "error") problems.push(`the console: ${message.text()}`);
  });
  await page.goto(`${base}/?dataset=kb`);
  await page.click(".yasqe_queryButton");
  await page.waitForSelector(".yasr_results table tbody tr", { timeout: 20_000 });
  const rows = await page.$$eval(".yasr_results table tbody tr", (found) => found.map((row) => row.innerText.replace(/\s+/g, " ").trim()));
  const expected = JSON.stringify(["1 <urn:ann> <urn:name> Ann"]);
  if (JSON.stringify(rows) !== expected) problems.push(`it shows ${JSON.stringify(rows)} instead of ${expected}`);
} finally {
  await browser.close();
}
problems.forEach((problem) => console.error(problem));
console.log(problems.length === 0 ? "the query page works" : "the query page does not work");
process.exit(problems.length === 0 ? 0 : 1);
