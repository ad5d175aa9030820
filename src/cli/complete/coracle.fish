# fish completion of coracle. An alias made by `alias docker=coracle` wraps it.
function __coracle_complete
    set -l words (commandline -opc)
    set -e words[1]
    set -l begun (commandline -ct)
    for line in (command coracle __complete words $words "$begun" 2>/dev/null)
        if test "$line" = ":files"
            __fish_complete_path "$begun"
        else
            echo "$line"
        end
    end
end
complete -c coracle -f -a '(__coracle_complete)'
