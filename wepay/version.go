package wepay

// Version is this software's, as WeChat's operators see it in the User-Agent.
const Version = "0.1.0"
