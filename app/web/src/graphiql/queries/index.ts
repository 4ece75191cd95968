// The tabs that a newcomer finds open. Each tab takes its title from the operation's name.
import enroll from "./enroll-member.graphql?raw";
import enrollVariables from "./enroll-member.json?raw";
import progress from "./how-far-to-the-next-tier.graphql?raw";
import progressVariables from "./how-far-to-the-next-tier.json?raw";
import member from "./member-and-why.graphql?raw";
import memberVariables from "./member-and-why.json?raw";
import purchase from "./record-purchase.graphql?raw";
import purchaseVariables from "./record-purchase.json?raw";
import watch from "./watch-a-balance.graphql?raw";
import watchVariables from "./watch-a-balance.json?raw";
import catalog from "./what-can-they-have.graphql?raw";
import catalogVariables from "./what-can-they-have.json?raw";
import happened from "./what-happened.graphql?raw";
import happenedVariables from "./what-happened.json?raw";
import simulate from "./what-would-they-get.graphql?raw";
import simulateVariables from "./what-would-they-get.json?raw";
import program from "./your-program.graphql?raw";

export const READY_QUERIES = [
  { query: program },
  { query: simulate, variables: simulateVariables },
  { query: catalog, variables: catalogVariables },
  { query: member, variables: memberVariables },
  { query: progress, variables: progressVariables },
  { query: happened, variables: happenedVariables },
  { query: purchase, variables: purchaseVariables },
  { query: enroll, variables: enrollVariables },
  { query: watch, variables: watchVariables },
];
