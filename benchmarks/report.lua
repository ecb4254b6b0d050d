-- For wrk: prints what came of a load as one line of JSON. The only argument, if there is one, is
-- the pause after each response in milliseconds.

function init(arguments)
    local pause = tonumber(arguments[1])
    if pause then
        delay = function() return pause end
    end
end

function done(summary)
    local errors = summary.errors
    io.write(string.format(
        '{"requests":%d,"microseconds":%d,'
        .. '"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d}\n',
        summary.requests, summary.duration,
        errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end
